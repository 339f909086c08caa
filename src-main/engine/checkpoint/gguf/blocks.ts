import { alignedFloats, type Dtype, toFloat32 } from '../dtypes.ts'
import { decodeMicroscaled, decodeThreeBits, decodeTwoBits, decodeUneven, decodeUnevenSuper } from './small-blocks.ts'

/** How GGUF stores a run of values: plain ones under their dtype, quantised ones in blocks that share their scales. */
export interface BlockType {
  readonly name: string
  /** Values and bytes of one block. */
  readonly values: number
  readonly bytes: number
  /** The plain dtype, where there is one. */
  readonly dtype?: Dtype
  /** Writes the values of the block at byte `at` to `out` from index `to` on. */
  readonly decode?: (data: DataView, at: number, out: Float32Array, to: number) => void
}

/** The types this program reads, by their number in the file (ggml.h). */
export const blockTypes: Readonly<Record<number, BlockType>> = {
  0: plain('F32', 4),
  1: plain('F16', 2),
  2: { name: 'Q4_0', values: 32, bytes: 18, decode: (data, at, out, to) => decodeNibbles(data, at, 2, -8, out, to) },
  3: { name: 'Q4_1', values: 32, bytes: 20, decode: (data, at, out, to) => decodeNibbles(data, at, 4, 0, out, to) },
  6: { name: 'Q5_0', values: 32, bytes: 22, decode: (data, at, out, to) => decodeFiveBits(data, at, 2, -16, out, to) },
  7: { name: 'Q5_1', values: 32, bytes: 24, decode: (data, at, out, to) => decodeFiveBits(data, at, 4, 0, out, to) },
  8: { name: 'Q8_0', values: 32, bytes: 34, decode: decodeBytes },
  10: { name: 'Q2_K', values: 256, bytes: 84, decode: decodeTwoBits },
  11: { name: 'Q3_K', values: 256, bytes: 110, decode: decodeThreeBits },
  12: { name: 'Q4_K', values: 256, bytes: 144, decode: (data, at, out, to) => decodeSuper(data, at, undefined, at + 16, out, to) },
  13: { name: 'Q5_K', values: 256, bytes: 176, decode: (data, at, out, to) => decodeSuper(data, at, at + 16, at + 48, out, to) },
  14: { name: 'Q6_K', values: 256, bytes: 210, decode: decodeSixBits },
  20: { name: 'IQ4_NL', values: 32, bytes: 18, decode: decodeUneven },
  23: { name: 'IQ4_XS', values: 256, bytes: 136, decode: decodeUnevenSuper },
  24: plain('I8', 1),
  25: plain('I16', 2),
  26: plain('I32', 4),
  27: plain('I64', 8),
  28: plain('F64', 8),
  30: plain('BF16', 2),
  39: { name: 'MXFP4', values: 32, bytes: 17, decode: decodeMicroscaled },
}

/** Types that exist and are not read. */
const otherTypes: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  21: 'IQ3_S',
  22: 'IQ2_S',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
  40: 'NVFP4',
}

/** What a type number that is not read stands for, or undefined where nothing is known of it. */
export const nameOtherType = (number: number): string | undefined => otherTypes[number]

function plain(dtype: Dtype, bytes: number): BlockType {
  return { name: dtype, values: 1, bytes, dtype }
}

/** Names of the types above, for messages. */
export const blockTypeNames = Object.values(blockTypes).map(({ name }) => name)

// As in dtypes.ts: loops run over a scratch, since aligned memory is slow to index.
const chunk = 16384

/** Float32 values of whole blocks. */
export function decodeBlocks(bytes: Uint8Array, type: BlockType): Float32Array {
  if (type.dtype) return toFloat32(bytes, type.dtype)
  const blocks = bytes.byteLength / type.bytes
  const result = alignedFloats(blocks * type.values)
  const perChunk = chunk / type.values
  const scratch = new Float32Array(chunk)
  for (let first = 0; first < blocks; first += perChunk) {
    const count = Math.min(perChunk, blocks - first)
    const data = new DataView(new Uint8Array(bytes.subarray(first * type.bytes, (first + count) * type.bytes)).buffer)
    for (let block = 0; block < count; block++) type.decode?.(data, block * type.bytes, scratch, block * type.values)
    result.set(scratch.subarray(0, count * type.values), first * type.values)
  }
  return result
}

/** Scale and, in types of a header of four bytes, minimum of a block. */
function readScale(data: DataView, at: number, header: number): [scale: number, minimum: number] {
  return [data.getFloat16(at, true), header === 4 ? data.getFloat16(at + 2, true) : 0]
}

function decodeNibbles(data: DataView, at: number, header: number, shift: number, out: Float32Array, to: number): void {
  const [scale, minimum] = readScale(data, at, header)
  for (let i = 0; i < 16; i++) {
    const byte = data.getUint8(at + header + i)
    out[to + i] = ((byte & 15) + shift) * scale + minimum
    out[to + i + 16] = ((byte >> 4) + shift) * scale + minimum
  }
}

function decodeFiveBits(data: DataView, at: number, header: number, shift: number, out: Float32Array, to: number): void {
  const [scale, minimum] = readScale(data, at, header)
  const high = data.getUint32(at + header, true)
  for (let i = 0; i < 16; i++) {
    const byte = data.getUint8(at + header + 4 + i)
    out[to + i] = ((byte & 15) + ((high >>> i) & 1) * 16 + shift) * scale + minimum
    out[to + i + 16] = ((byte >> 4) + ((high >>> (i + 16)) & 1) * 16 + shift) * scale + minimum
  }
}

function decodeBytes(data: DataView, at: number, out: Float32Array, to: number): void {
  const scale = data.getFloat16(at, true)
  for (let i = 0; i < 32; i++) out[to + i] = data.getInt8(at + 2 + i) * scale
}

/** Q4_K and Q5_K: eight groups of 32 values with a 6-bit scale and minimum each; `high` is where the fifth bits are. */
function decodeSuper(data: DataView, at: number, high: number | undefined, low: number, out: Float32Array, to: number): void {
  const scale = data.getFloat16(at, true)
  const minimum = data.getFloat16(at + 2, true)
  for (let group = 0; group < 8; group++) {
    const [groupScale, groupMinimum] = readGroup(data, at + 4, group)
    const factor = scale * groupScale
    const offset = minimum * groupMinimum
    const source = low + (group >> 1) * 32
    for (let i = 0; i < 32; i++) {
      const byte = data.getUint8(source + i)
      const fifth = high === undefined ? 0 : ((data.getUint8(high + i) >> group) & 1) * 16
      out[to + group * 32 + i] = factor * ((group % 2 === 0 ? byte & 15 : byte >> 4) + fifth) - offset
    }
  }
}

/** The 6-bit scale and minimum of a group, packed into twelve bytes: the last four groups keep their upper bits in the first eight. */
function readGroup(data: DataView, at: number, group: number): [scale: number, minimum: number] {
  const first = data.getUint8(at + group)
  if (group < 4) return [first & 63, data.getUint8(at + group + 4) & 63]
  const packed = data.getUint8(at + group + 4)
  return [(packed & 15) | ((data.getUint8(at + group - 4) >> 6) << 4), (packed >> 4) | ((first >> 6) << 4)]
}

/** Q6_K: sixteen groups of 16 values with an 8-bit scale each; lower four bits, upper two bits, scales, then the block's scale. */
function decodeSixBits(data: DataView, at: number, out: Float32Array, to: number): void {
  const scale = data.getFloat16(at + 208, true)
  for (let i = 0; i < 256; i++) {
    const half = i >> 7
    const quarter = (i >> 5) & 3
    const column = i & 31
    const low = data.getUint8(at + half * 64 + (quarter & 1) * 32 + column)
    const high = data.getUint8(at + 128 + half * 32 + column) >> (quarter * 2)
    const value = ((quarter < 2 ? low & 15 : low >> 4) | ((high & 3) << 4)) - 32
    out[to + i] = scale * data.getInt8(at + 192 + (i >> 4)) * value
  }
}
