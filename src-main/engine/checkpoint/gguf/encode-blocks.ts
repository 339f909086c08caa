import { fromFloat32 } from '../dtypes.ts'

/** A type that this program writes: its number in the file (ggml.h), values and bytes of a block, and how a block is made. */
export interface EncodedType {
  readonly number: number
  readonly values: number
  readonly bytes: number
  /** Writes the block of `values` values that begin at `from` to byte `at`. */
  readonly encode?: (x: Float32Array, from: number, out: DataView, at: number) => void
}

/**
 * The types that this program writes, by their names in ggml. Q4_0, Q5_0 and Q8_0 take the scale that the block's extreme value gives;
 * Q4_K, Q5_K and Q6_K search the scales of their groups for the least weighted square error.
 */
export const encodedTypes = {
  F32: { number: 0, values: 1, bytes: 4 },
  F16: { number: 1, values: 1, bytes: 2 },
  BF16: { number: 30, values: 1, bytes: 2 },
  Q4_0: { number: 2, values: 32, bytes: 18, encode: encodeNibbles },
  Q5_0: { number: 6, values: 32, bytes: 22, encode: encodeFiveBits },
  Q8_0: { number: 8, values: 32, bytes: 34, encode: encodeBytes },
  Q4_K: { number: 12, values: 256, bytes: 144, encode: (x, from, out, at) => encodeSuper(x, from, out, at, 4) },
  Q5_K: { number: 13, values: 256, bytes: 176, encode: (x, from, out, at) => encodeSuper(x, from, out, at, 5) },
  Q6_K: { number: 14, values: 256, bytes: 210, encode: encodeSixBits },
} as const satisfies Record<string, EncodedType>

export type EncodedTypeName = keyof typeof encodedTypes

/** Bytes that values of a type take. */
export function encodedBytes(type: EncodedTypeName, values: number): number {
  const { values: perBlock, bytes } = encodedTypes[type]
  return (values / perBlock) * bytes
}

/** The bytes of values in a type; their number must be a multiple of the type's block. */
export function encodeValues(values: Float32Array, type: EncodedTypeName): Uint8Array {
  if (type === 'F32' || type === 'F16' || type === 'BF16') return fromFloat32(values, type)
  const { values: perBlock, bytes, encode } = encodedTypes[type]
  const blocks = values.length / perBlock
  const result = new Uint8Array(blocks * bytes)
  const out = new DataView(result.buffer)
  // Arrays on aligned memory are slow to index.
  const scratch = new Float32Array(perBlock)
  for (let block = 0; block < blocks; block++) {
    scratch.set(values.subarray(block * perBlock, (block + 1) * perBlock))
    encode(scratch, 0, out, block * bytes)
  }
  return result
}

/** The value of the largest magnitude, with its sign. */
function extreme(x: Float32Array, from: number, count: number): number {
  let found = 0
  for (let i = from; i < from + count; i++) if (Math.abs(x[i] as number) > Math.abs(found)) found = x[i] as number
  return found
}

function encodeNibbles(x: Float32Array, from: number, out: DataView, at: number): void {
  const scale = extreme(x, from, 32) / -8
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale)
  out.setFloat16(at, scale, true)
  const level = (i: number) => Math.min(15, Math.trunc(Math.fround(Math.fround((x[from + i] as number) * inverse) + 8.5)))
  for (let i = 0; i < 16; i++) out.setUint8(at + 2 + i, level(i) | (level(i + 16) << 4))
}

function encodeFiveBits(x: Float32Array, from: number, out: DataView, at: number): void {
  const scale = extreme(x, from, 32) / -16
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale)
  out.setFloat16(at, scale, true)
  const level = (i: number) => Math.min(31, Math.trunc(Math.fround(Math.fround((x[from + i] as number) * inverse) + 16.5)))
  let high = 0
  for (let i = 0; i < 16; i++) {
    const [low, upper] = [level(i), level(i + 16)]
    out.setUint8(at + 6 + i, (low & 15) | ((upper & 15) << 4))
    high |= ((low >> 4) << i) | ((upper >> 4) << (i + 16))
  }
  out.setUint32(at + 2, high >>> 0, true)
}

function encodeBytes(x: Float32Array, from: number, out: DataView, at: number): void {
  const scale = Math.abs(extreme(x, from, 32)) / 127
  const inverse = scale === 0 ? 0 : 1 / scale
  out.setFloat16(at, scale, true)
  for (let i = 0; i < 32; i++) out.setInt8(at + 2 + i, Math.round((x[from + i] as number) * inverse))
}

const levels = new Uint8Array(256)
const scales = new Float64Array(16)
const minima = new Float64Array(8)

/** Scales and minima of eight groups of 32 values, six bits each, then the levels: four bits, and in Q5_K the fifth apart. */
function encodeSuper(x: Float32Array, from: number, out: DataView, at: number, bits: 4 | 5): void {
  const top = 2 ** bits - 1
  let [largestScale, largestMinimum] = [0, 0]
  for (let group = 0; group < 8; group++) {
    fitGroup(x, from + 32 * group, top, group)
    largestScale = Math.max(largestScale, scales[group] as number)
    largestMinimum = Math.max(largestMinimum, minima[group] as number)
  }
  out.setFloat16(at, largestScale / 63, true)
  out.setFloat16(at + 2, largestMinimum / 63, true)
  const [scaleUnit, minimumUnit] = [out.getFloat16(at, true), out.getFloat16(at + 2, true)]
  const six = (value: number, largest: number) => (largest > 0 ? Math.min(63, Math.round((63 * value) / largest)) : 0)
  for (let group = 0; group < 8; group++) {
    const scale = six(scales[group] as number, largestScale)
    const minimum = six(minima[group] as number, largestMinimum)
    writeGroup(out, at + 4, group, scale, minimum)
    const [step, offset] = [scaleUnit * scale, minimumUnit * minimum]
    for (let i = 32 * group; i < 32 * group + 32; i++)
      levels[i] = step > 0 ? Math.max(0, Math.min(top, roundEven(((x[from + i] as number) + offset) / step))) : 0
  }
  const low = at + (bits === 5 ? 48 : 16)
  for (let pair = 0; pair < 4; pair++)
    for (let i = 0; i < 32; i++)
      out.setUint8(low + 32 * pair + i, ((levels[64 * pair + i] as number) & 15) | (((levels[64 * pair + 32 + i] as number) & 15) << 4))
  if (bits === 5) writeFifthBits(out, at + 16)
}

function writeFifthBits(out: DataView, at: number): void {
  for (let i = 0; i < 32; i++) {
    let byte = 0
    for (let group = 0; group < 8; group++) byte |= ((levels[32 * group + i] as number) >> 4) << group
    out.setUint8(at + i, byte)
  }
}

/** Packs a group's six-bit scale and minimum into the twelve bytes that `readGroup` takes apart. */
function writeGroup(out: DataView, at: number, group: number, scale: number, minimum: number): void {
  if (group < 4) {
    out.setUint8(at + group, scale)
    out.setUint8(at + 4 + group, minimum)
    return
  }
  out.setUint8(at + 4 + group, (scale & 15) | ((minimum & 15) << 4))
  out.setUint8(at + group - 4, out.getUint8(at + group - 4) | ((scale >> 4) << 6))
  out.setUint8(at + group, out.getUint8(at + group) | ((minimum >> 4) << 6))
}

const weights = new Float64Array(32)

/**
 * The scale and minimum (what is taken off, at least 0) of 32 values with levels 0 to `top`: of a range of step sizes around the
 * plain one, each refitted by weighted least squares, those with the smallest error. Large values weigh more.
 */
function fitGroup(x: Float32Array, from: number, top: number, group: number): void {
  let [least, most, squares] = [0, x[from] as number, 0]
  for (let i = from; i < from + 32; i++) {
    const value = x[i] as number
    if (value < least) least = value
    if (value > most) most = value
    squares += value * value
  }
  const range = most - least
  scales[group] = range > 0 ? range / top : 0
  minima[group] = -least
  if (range === 0) return
  const base = Math.sqrt(squares / 32)
  let [w, wx, wxx] = [0, 0, 0]
  for (let i = 0; i < 32; i++) {
    const value = x[from + i] as number
    const weight = base + Math.abs(value)
    weights[i] = weight
    w += weight
    wx += weight * value
    wxx += weight * value * value
  }
  let best = Number.POSITIVE_INFINITY
  // Step sizes from a level more in the range to a level less.
  for (let step = 0; step <= 20; step++) {
    const inverse = (top - 1 + 0.1 * step) / range
    let [wl, wll, wlx] = [0, 0, 0]
    for (let i = 0; i < 32; i++) {
      const value = x[from + i] as number
      const exact = inverse * (value - least) + shift - shift
      const level = Math.min(exact, top)
      const weighted = (weights[i] as number) * level
      wl += weighted
      wll += weighted * level
      wlx += weighted * value
    }
    const determinant = w * wll - wl * wl
    if (determinant <= 0) continue
    const offset = (wll * wx - wl * wlx) / determinant
    const minimum = offset > 0 ? 0 : -offset
    const scale = offset > 0 ? wlx / wll : (w * wlx - wl * wx) / determinant
    const error = scale * scale * wll + minimum * minimum * w + wxx - 2 * scale * minimum * wl - 2 * scale * wlx + 2 * minimum * wx
    if (error >= best) continue
    best = error
    scales[group] = scale
    minima[group] = minimum
  }
}

/** Q6_K: sixteen groups of 16 values with a signed 8-bit scale each; levels from -32 to 31. */
function encodeSixBits(x: Float32Array, from: number, out: DataView, at: number): void {
  let largest = 0
  for (let group = 0; group < 16; group++) {
    const scale = fitSymmetric(x, from + 16 * group)
    scales[group] = scale
    if (Math.abs(scale) > Math.abs(largest)) largest = scale
  }
  if (largest === 0) {
    for (let byte = 0; byte < 210; byte++) out.setUint8(at + byte, 0)
    return
  }
  out.setFloat16(at + 208, largest / -128, true)
  const unit = out.getFloat16(at + 208, true)
  for (let group = 0; group < 16; group++) {
    const scale = Math.max(-128, Math.min(127, roundEven(((scales[group] as number) * -128) / largest)))
    out.setInt8(at + 192 + group, scale)
    const step = unit * scale
    for (let i = 16 * group; i < 16 * group + 16; i++)
      levels[i] = 32 + (step === 0 ? 0 : Math.max(-32, Math.min(31, roundEven((x[from + i] as number) / step))))
  }
  for (let half = 0; half < 2; half++) {
    for (let i = 0; i < 32; i++) {
      const [a, b, c, d] = [0, 32, 64, 96].map((offset) => levels[128 * half + offset + i] as number) as [number, number, number, number]
      out.setUint8(at + 64 * half + i, (a & 15) | ((c & 15) << 4))
      out.setUint8(at + 64 * half + 32 + i, (b & 15) | ((d & 15) << 4))
      out.setUint8(at + 128 + 32 * half + i, (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((d >> 4) << 6))
    }
  }
}

/** The scale of 16 values with levels -32 to 31: of several around the plain one, refitted with weights x^2, the one that explains most. */
function fitSymmetric(x: Float32Array, from: number): number {
  const largest = extreme(x, from, 16)
  if (Math.abs(largest) < 1e-15) return 0
  let [best, scale] = [-1, 0]
  for (let step = -9; step <= 9; step++) {
    const inverse = -(32 + 0.1 * step) / largest
    let [ll, lx] = [0, 0]
    for (let i = from; i < from + 16; i++) {
      const value = x[i] as number
      const exact = inverse * value + shift - shift
      const level = Math.min(31, Math.max(-32, exact))
      const weighted = value * value * level
      ll += weighted * level
      lx += weighted * value
    }
    if (ll > 0 && lx * lx > best * ll) {
      best = (lx * lx) / ll
      scale = lx / ll
    }
  }
  return scale
}

// Adding and taking off 1.5 * 2^52 rounds to the nearest whole number, halves to the even one.
const shift = 6755399441055744
const roundEven = (value: number): number => value + shift - shift
