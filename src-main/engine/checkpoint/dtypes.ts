import { alignedBuffer } from './aligned-buffer.ts'

/** Bytes per element of every dtype that Espalier stores. All are little-endian. */
const sizes = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const

export type Dtype = keyof typeof sizes
export type FloatDtype = 'F32' | 'F16' | 'BF16'

export const dtypes = Object.keys(sizes) as readonly Dtype[]

/** Size of one element, in bytes. */
export function elementBytes(dtype: Dtype): number {
  return sizes[dtype]
}

export function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(sizes, value)
}

// Loops work on copies of this many elements, because indexing memory from `alignedBuffer` is several times slower than copying it.
const chunk = 16384

/**
 * Converts little-endian bytes to float32 values. For F32 at a multiple of four bytes, the result is a view of the same memory, not a copy.
 * I64, U64 and F64, and I32 and U32 beyond 2^24, are rounded to the nearest float32.
 */
export function toFloat32(bytes: Uint8Array, dtype: Dtype): Float32Array {
  const length = bytes.byteLength / sizes[dtype]
  if (dtype === 'F32' && bytes.byteOffset % 4 === 0) return new Float32Array(bytes.buffer, bytes.byteOffset, length)
  const result = alignedFloats(length)
  const convert = converters[dtype]
  const scratch = new Float32Array(Math.min(chunk, length))
  for (let first = 0; first < length; first += chunk) {
    const count = Math.min(chunk, length - first)
    convert(new Uint8Array(bytes.subarray(first * sizes[dtype], (first + count) * sizes[dtype])), scratch)
    result.set(scratch.subarray(0, count), first)
  }
  return result
}

/** Creates a zeroed Float32Array on memory from `alignedBuffer`. */
export function alignedFloats(length: number): Float32Array {
  const memory = alignedBuffer(length * 4)
  return new Float32Array(memory.buffer, memory.byteOffset, length)
}

type Converter = (bytes: Uint8Array, out: Float32Array) => void

const converters: Record<Dtype, Converter> = {
  F64: (bytes, out) => out.set(new Float64Array(bytes.buffer)),
  F32: (bytes, out) => out.set(new Float32Array(bytes.buffer)),
  F16: (bytes, out) => out.set(new Float16Array(bytes.buffer)),
  BF16: (bytes, out) => {
    const source = new Uint16Array(bytes.buffer)
    const bits = new Uint32Array(out.buffer)
    for (let i = 0; i < source.length; i++) bits[i] = (source[i] as number) << 16
  },
  I64: (bytes, out) => convertBig(new BigInt64Array(bytes.buffer), out),
  U64: (bytes, out) => convertBig(new BigUint64Array(bytes.buffer), out),
  I32: (bytes, out) => out.set(new Int32Array(bytes.buffer)),
  U32: (bytes, out) => out.set(new Uint32Array(bytes.buffer)),
  I16: (bytes, out) => out.set(new Int16Array(bytes.buffer)),
  U16: (bytes, out) => out.set(new Uint16Array(bytes.buffer)),
  I8: (bytes, out) => out.set(new Int8Array(bytes.buffer)),
  U8: (bytes, out) => out.set(bytes),
  BOOL: (bytes, out) => out.set(bytes),
}

function convertBig(source: BigInt64Array | BigUint64Array, out: Float32Array): void {
  for (let i = 0; i < source.length; i++) out[i] = Number(source[i])
}

/**
 * Converts float32 values to little-endian bytes, rounding to nearest, ties to even. Values too large for the type become infinite.
 * For F32, the result is a view of the same memory, not a copy.
 */
export function fromFloat32(values: Float32Array, dtype: FloatDtype): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
  if (dtype === 'F16') return new Uint8Array(new Float16Array(values).buffer)
  const result = new Uint16Array(values.length)
  for (let first = 0; first < values.length; first += chunk) {
    const bits = new Uint32Array(values.slice(first, first + chunk).buffer)
    for (let i = 0; i < bits.length; i++) result[first + i] = roundToBrain(bits[i] as number)
  }
  return new Uint8Array(result.buffer)
}

/** Returns the upper half of a float32's bits, rounded. NaN stays NaN. */
function roundToBrain(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

/** Counts the values that are NaN or infinite. */
export function countNonFinite(values: Float32Array): number {
  let count = 0
  for (let first = 0; first < values.length; first += chunk) {
    const bits = new Uint32Array(values.slice(first, first + chunk).buffer)
    for (let i = 0; i < bits.length; i++) if (((bits[i] as number) & 0x7f800000) === 0x7f800000) count++
  }
  return count
}

/** Does the same for stored values. 16-bit values are checked in pairs without converting them. */
export function countNonFiniteStored(bytes: Uint8Array, dtype: Dtype): number {
  if ((dtype !== 'F16' && dtype !== 'BF16') || bytes.byteLength % 4 !== 0) return countNonFinite(toFloat32(bytes, dtype))
  const exponent = dtype === 'F16' ? 0x7c00 : 0x7f80
  let count = 0
  for (let first = 0; first < bytes.byteLength; first += 4 * chunk) {
    const words = new Uint32Array(bytes.slice(first, first + 4 * chunk).buffer)
    for (let i = 0; i < words.length; i++) {
      const word = words[i] as number
      if ((word & exponent) === exponent) count++
      if (((word >>> 16) & exponent) === exponent) count++
    }
  }
  return count
}
