import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { writeAll, writeWhole } from '#engine/checkpoint/write-all.ts'
import { type BlockType, bytesOfValues } from './value-blocks.ts'

/** A metadata value with the type that it is stored as. Lists of whole numbers are stored as signed 32-bit integers. */
export type MetadataValue =
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'integer' | 'signed' | 'short' | 'float'; readonly value: number }
  | { readonly kind: 'flag'; readonly value: boolean }
  | { readonly kind: 'texts'; readonly value: readonly string[] }
  | { readonly kind: 'integers' | 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'flags'; readonly value: readonly boolean[] }

export type MetadataEntries = Map<string, MetadataValue>

/** A tensor to write. `bytes` is called once, when the tensor is written. `shape` has the number of rows first. */
export interface GgufTensorToWrite {
  readonly name: string
  readonly type: BlockType
  readonly shape: readonly number[]
  readonly bytes: () => Promise<Uint8Array>
}

/** Every tensor's offset is a multiple of this many bytes. */
const alignment = 32

/** Bytes that a tensor takes in a file, without padding. */
export function storedBytes({ type, shape }: Pick<GgufTensorToWrite, 'type' | 'shape'>): number {
  return bytesOfValues(
    type,
    shape.reduce((product, size) => product * size, 1),
  )
}

/** Writes a GGUF file (version 3) with one tensor in memory at a time, and waits until it is on disk. Removes the file on failure. */
export async function writeGguf(
  file: string,
  metadata: MetadataEntries,
  tensors: readonly GgufTensorToWrite[],
  onBytes: (bytes: number) => void = () => undefined,
): Promise<void> {
  await writeWhole(file, async (handle) => {
    await writeAll(handle, ggufHeader(metadata, tensors))
    for (const tensor of tensors) onBytes(await writeTensor(handle, tensor))
  })
}

async function writeTensor(handle: FileHandle, tensor: GgufTensorToWrite): Promise<number> {
  const bytes = await tensor.bytes()
  const expected = storedBytes(tensor)
  if (bytes.byteLength !== expected) {
    throw new EspalierError(
      'internal',
      `Tensor ${tensor.name} of ${tensor.type.name} [${tensor.shape.join(', ')}] takes ${expected} bytes, but has ${bytes.byteLength}.`,
    )
  }
  await writeAll(handle, bytes)
  const padding = padded(expected) - expected
  if (padding > 0) await writeAll(handle, new Uint8Array(padding))
  return expected
}

const padded = (bytes: number): number => Math.ceil(bytes / alignment) * alignment

/** Counts the bytes of metadata in a header without building it, because a list of tokens has up to 250,000 entries. */
export function entriesBytes(metadata: MetadataEntries): number {
  let bytes = 0
  for (const [key, { kind, value }] of metadata) {
    const values = Array.isArray(value) ? value : [value]
    const type = typeNumbers[kind]
    bytes += 8 + Buffer.byteLength(key) + (Array.isArray(value) ? 16 : 4)
    for (const one of values) bytes += typeof one === 'string' ? 8 + Buffer.byteLength(one) : (shortTypes[type] ?? 4)
  }
  return bytes
}

/** The size in bytes of a file with these tensors and this many bytes of metadata. */
export function ggufBytes(metadata: number, tensors: readonly GgufTensorToWrite[]): number {
  const places = tensors.reduce((sum, { name, shape }) => sum + 24 + Buffer.byteLength(name) + 8 * shape.length, 0)
  return tensors.reduce((sum, tensor) => sum + padded(storedBytes(tensor)), padded(24 + metadata + places))
}

/** Builds everything before the first tensor's values: magic, counts, metadata, and each tensor's name, shape, type and offset. */
function ggufHeader(metadata: MetadataEntries, tensors: readonly GgufTensorToWrite[]): Uint8Array {
  const out = new Pieces()
  out.bytes(Buffer.from('GGUF')).u32(3).u64(tensors.length).u64(metadata.size)
  for (const [key, value] of metadata) {
    out.text(key)
    writeValue(out, value)
  }
  const names = new Set<string>()
  let offset = 0
  for (const tensor of tensors) {
    if (names.has(tensor.name)) throw new EspalierError('internal', `Two tensors are named ${tensor.name}. Tensor names must be unique.`)
    names.add(tensor.name)
    out.text(tensor.name).u32(tensor.shape.length)
    for (const size of tensor.shape.toReversed()) out.u64(size)
    out.u32(tensor.type.number).u64(offset)
    offset += padded(storedBytes(tensor))
  }
  return out.padTo(alignment)
}

const typeNumbers = { integer: 4, signed: 5, float: 6, short: 2, flag: 7, text: 8, texts: 8, integers: 5, floats: 6, flags: 7 } as const
const listType = 9
/** Bytes of the number types that do not take four. */
const shortTypes: Partial<Record<number, number>> = { 2: 2, 7: 1 }

function writeValue(out: Pieces, entry: MetadataValue): void {
  const type = typeNumbers[entry.kind]
  if (!Array.isArray(entry.value)) {
    out.u32(type)
    writeScalar(out, type, entry.value as number | boolean | string)
    return
  }
  out.u32(listType).u32(type).u64(entry.value.length)
  for (const value of entry.value) writeScalar(out, type, value)
}

function writeScalar(out: Pieces, type: number, value: number | boolean | string): void {
  if (typeof value === 'string') out.text(value)
  else if (type === 7) out.bytes(Uint8Array.of(value ? 1 : 0))
  else if (type === 6) out.bytes(new Uint8Array(Float32Array.of(Number(value)).buffer))
  else if (type === 5) out.bytes(new Uint8Array(Int32Array.of(Number(value)).buffer))
  else if (type === 2) out.bytes(new Uint8Array(Uint16Array.of(Number(value)).buffer))
  else out.u32(Number(value))
}

/** Builds little-endian bytes. */
class Pieces {
  readonly #parts: Uint8Array[] = []
  #length = 0

  bytes(part: Uint8Array): this {
    this.#parts.push(part)
    this.#length += part.byteLength
    return this
  }

  u32(value: number): this {
    return this.bytes(new Uint8Array(Uint32Array.of(value).buffer))
  }

  u64(value: number): this {
    return this.bytes(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer))
  }

  text(value: string): this {
    const bytes = Buffer.from(value)
    return this.u64(bytes.byteLength).bytes(bytes)
  }

  padTo(multiple: number): Uint8Array {
    const missing = Math.ceil(this.#length / multiple) * multiple - this.#length
    return Buffer.concat([...this.#parts, new Uint8Array(missing)])
  }
}

/** By default, a file with more bytes of tensors than this is split, because hubs and some file systems limit the size of a file. */
const defaultShardBytes = 5e9

/** The names of the files that `writeGgufShards` writes. The first is the one to open. */
export function shardNames(name: string, tensors: readonly GgufTensorToWrite[], limit = defaultShardBytes): string[] {
  const count = divide(tensors, limit).length
  return count === 1 ? [`${name}.gguf`] : Array.from({ length: count }, (_, index) => shardName(name, index, count))
}

/** Writes one file, or several if it would exceed the limit. Of several files, the first holds the metadata. */
export async function writeGgufShards(
  folder: string,
  name: string,
  { metadata, tensors }: { metadata: MetadataEntries; tensors: readonly GgufTensorToWrite[] },
  limit = defaultShardBytes,
): Promise<void> {
  const shards = divide(tensors, limit)
  const names = shardNames(name, tensors, limit)
  for (const [index, shard] of shards.entries()) {
    const entries: MetadataEntries = new Map([...(index === 0 ? metadata : []), ...splitEntries(index, shards.length, tensors.length)])
    await writeGguf(join(folder, names[index] as string), entries, shard)
  }
}

/** The total size in bytes of the files that `writeGgufShards` would write, given the bytes of metadata. */
export function ggufShardsBytes(metadata: number, tensors: readonly GgufTensorToWrite[], limit = defaultShardBytes): number {
  const shards = divide(tensors, limit)
  const split = entriesBytes(splitEntries(0, shards.length, tensors.length))
  return shards.reduce((sum, shard, index) => sum + ggufBytes((index === 0 ? metadata : 0) + split, shard), 0)
}

function splitEntries(index: number, shards: number, tensors: number): MetadataEntries {
  if (shards === 1) return new Map()
  return new Map([
    ['split.no', { kind: 'short', value: index }],
    ['split.count', { kind: 'short', value: shards }],
    ['split.tensors.count', { kind: 'signed', value: tensors }],
  ])
}

/** The name of one part of a split file, as llama.cpp writes it. */
function shardName(name: string, index: number, count: number): string {
  const five = (value: number) => String(value).padStart(5, '0')
  return `${name}-${five(index + 1)}-of-${five(count)}.gguf`
}

function divide(tensors: readonly GgufTensorToWrite[], limit: number): GgufTensorToWrite[][] {
  const shards: GgufTensorToWrite[][] = [[]]
  let bytes = 0
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + storedBytes(tensor) > limit) {
      shards.push([])
      bytes = 0
    }
    shards.at(-1)?.push(tensor)
    bytes += storedBytes(tensor)
  }
  return shards
}
