/** A metadata value with the type number it is stored as. */
export type Entry = [type: number, value: unknown]

export interface GgufTensorToMake {
  name: string
  /** Type number: 0 is F32, 1 F16, 30 BF16. */
  type: number
  /** Rows first; stored the other way round. */
  shape: number[]
  bytes: Uint8Array
  /** Offset to write instead of the true one. */
  offset?: number
}

export interface GgufFile {
  version?: number
  metadata: Record<string, Entry>
  tensors: GgufTensorToMake[]
}

export const text = (value: string): Entry => [8, value]
export const u32 = (value: number): Entry => [4, value]
export const f32 = (value: number): Entry => [6, value]
export const texts = (values: string[]): Entry => [9, [8, values]]
export const integers = (values: number[]): Entry => [9, [5, values]]

/** The bytes of a GGUF file, with an alignment of 32. */
export function makeGguf({ version = 3, metadata, tensors }: GgufFile): Buffer {
  const parts: Buffer[] = [Buffer.from('GGUF'), number32(version), number64(tensors.length), number64(Object.keys(metadata).length)]
  for (const [key, [type, value]] of Object.entries(metadata)) parts.push(string(key), number32(type), scalar(type, value))
  let offset = 0
  for (const { name, type, shape, bytes, offset: given } of tensors) {
    parts.push(string(name), number32(shape.length), ...[...shape].reverse().map(number64), number32(type), number64(given ?? offset))
    offset += align(bytes.length)
  }
  const header = Buffer.concat(parts)
  return Buffer.concat([pad(header), ...tensors.map(({ bytes }) => pad(bytes))])
}

function scalar(type: number, value: unknown): Buffer {
  if (type === 8) return string(value as string)
  if (type === 9) {
    const [inner, values] = value as [number, unknown[]]
    return Buffer.concat([number32(inner), number64(values.length), ...values.map((item) => scalar(inner, item))])
  }
  if (type === 6) return Buffer.from(Float32Array.of(value as number).buffer)
  if (type === 5) return Buffer.from(Int32Array.of(value as number).buffer)
  if (type === 7) return Buffer.from([value as number])
  return number32(value as number)
}

function string(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([number64(bytes.length), bytes])
}

function number32(value: number): Buffer {
  return Buffer.from(Uint32Array.of(value).buffer)
}

function number64(value: number): Buffer {
  return Buffer.from(BigUint64Array.of(BigInt(value)).buffer)
}

function align(length: number): number {
  return Math.ceil(length / 32) * 32
}

function pad(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(align(bytes.length) - bytes.length)])
}
