import { dequantise, type QuantisedType, quantise, quantisedType, quantisedTypes } from '#engine/backend/ggml/quantised-types.ts'
import { alignedFloats, type Dtype, type FloatDtype, fromFloat32, toFloat32 } from '#engine/checkpoint/dtypes.ts'

/** A type of plain values in GGUF, treated as blocks of one value. */
interface PlainType {
  readonly name: Dtype
  readonly number: number
  readonly values: 1
  readonly bytes: number
  readonly dtype: Dtype
}

/** A type of stored values in GGUF: plain, or quantised by ggml. */
export type BlockType = PlainType | (QuantisedType & { readonly dtype?: undefined })

/** The plain types with their numbers from ggml.h. They need no library. */
const plainTypes: readonly PlainType[] = [
  plain('F32', 0, 4),
  plain('F16', 1, 2),
  plain('I8', 24, 1),
  plain('I16', 25, 2),
  plain('I32', 26, 4),
  plain('I64', 27, 8),
  plain('F64', 28, 8),
  plain('BF16', 30, 2),
]

function plain(dtype: Dtype, number: number, bytes: number): PlainType {
  return { name: dtype, number, values: 1, bytes, dtype }
}

/** The type with this number; undefined if no file can have it. Throws `not-found` if the ggml library is needed but missing. */
export function blockTypeOf(number: number): BlockType | undefined {
  const same = (type: BlockType) => type.number === number
  return plainTypes.find(same) ?? quantisedTypes().find(same)
}

/** The type with this name. Throws `not-found` if the type is quantised and the ggml library is missing. */
export function blockTypeNamed(name: string): BlockType {
  return plainTypes.find((type) => type.name === name) ?? quantisedType(name)
}

/** Bytes of `count` values, which must fill whole blocks. */
export const bytesOfValues = ({ values, bytes }: BlockType, count: number): number => (count / values) * bytes

/** Decodes whole blocks to float32 values. */
export function decodeBlocks(bytes: Uint8Array, type: BlockType): Float32Array {
  if (type.dtype) return toFloat32(bytes, type.dtype)
  const values = alignedFloats((bytes.byteLength / type.bytes) * type.values)
  dequantise(type, bytes, values)
  return values
}

/** Encodes rows of `width` finite values in a floating-point or quantised type. `importances` weight the errors in each column. */
export async function encodeRows(values: Float32Array, type: BlockType, width: number, importances?: Float32Array): Promise<Uint8Array> {
  return type.dtype ? fromFloat32(values, type.dtype as FloatDtype) : quantise(type, values, width, importances)
}
