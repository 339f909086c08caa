import { type FileHandle, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { type Dtype, elementBytes } from '#engine/checkpoint/dtypes.ts'
import { writeAll, writeWhole } from '#engine/checkpoint/write-all.ts'
import { indexFile, singleFile } from './folder.ts'

/** A tensor to write. `bytes` is called once, when the tensor is written, so its values need not be in memory before. */
export interface TensorToWrite {
  name: string
  dtype: Dtype
  shape: readonly number[]
  bytes: () => Promise<Uint8Array> | Uint8Array
}

export type ShapedTensorToWrite = Omit<TensorToWrite, 'bytes'>

/**
 * Writes a safetensors file with one tensor in memory at a time, and waits until it is on disk. Wide dtypes come first, so that every
 * tensor is aligned to its element size. Removes the file on failure.
 */
export async function writeSafetensors(file: string, tensors: readonly TensorToWrite[], metadata?: Record<string, string>): Promise<void> {
  const sorted = inFileOrder(tensors)
  const header = buildHeader(sorted, metadata)
  await writeWhole(file, async (handle) => {
    await writeAll(handle, header)
    for (const tensor of sorted) await writeTensor(handle, tensor)
  })
}

/** The size in bytes of the file that `writeSafetensors` would write. */
function safetensorsBytes(tensors: readonly ShapedTensorToWrite[], metadata?: Record<string, string>): number {
  return tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), buildHeader(inFileOrder(tensors), metadata).byteLength)
}

const inFileOrder = <T extends ShapedTensorToWrite>(tensors: readonly T[]): T[] =>
  [...tensors].sort((a, b) => elementBytes(b.dtype) - elementBytes(a.dtype))

function buildHeader(tensors: readonly ShapedTensorToWrite[], metadata?: Record<string, string>): Uint8Array {
  const entries = new Map<string, unknown>()
  if (metadata) entries.set('__metadata__', metadata)
  let begin = 0
  for (const tensor of tensors) {
    if (entries.has(tensor.name)) throw new EspalierError('invalid', `Two tensors are named ${tensor.name}. Tensor names must be unique.`)
    const end = begin + tensorBytes(tensor)
    entries.set(tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [begin, end] })
    begin = end
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)))
  const length = Math.ceil(json.length / 8) * 8
  const header = new Uint8Array(8 + length).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true)
  header.set(json, 8)
  return header
}

/** Bytes of a tensor's values. */
export function tensorBytes({ dtype, shape }: Pick<TensorToWrite, 'dtype' | 'shape'>): number {
  return shape.reduce((product, size) => product * size, elementBytes(dtype))
}

async function writeTensor(handle: FileHandle, tensor: TensorToWrite): Promise<void> {
  const bytes = await tensor.bytes()
  const expected = tensorBytes(tensor)
  if (bytes.byteLength !== expected) {
    const shape = tensor.shape.join(', ')
    throw new EspalierError(
      'internal',
      `Tensor ${tensor.name} of ${tensor.dtype} [${shape}] takes ${expected} bytes, but has ${bytes.byteLength}.`,
    )
  }
  await writeAll(handle, bytes)
}

const metadata = { format: 'pt' }

/**
 * Writes tensors into a folder: as one safetensors file, or as several with an index if their values take more than `shardBytes`. A tensor
 * that is larger than that by itself gets its own file.
 */
export async function writeShards(folder: string, tensors: readonly TensorToWrite[], shardBytes = Number.POSITIVE_INFINITY): Promise<void> {
  const shards = divide(tensors, shardBytes)
  if (shards.length <= 1) return writeSafetensors(join(folder, singleFile), tensors, metadata)
  const index: Record<string, string> = {}
  for (const [position, shard] of shards.entries()) {
    const name = `model-${fiveDigits(position + 1)}-of-${fiveDigits(shards.length)}.safetensors`
    await writeSafetensors(join(folder, name), shard, metadata)
    for (const tensor of shard) index[tensor.name] = name
  }
  const total = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0)
  await writeFile(join(folder, indexFile), `${JSON.stringify({ metadata: { total_size: total }, weight_map: index }, null, 2)}\n`)
}

/** The total size in bytes of the safetensors files that `writeShards` would write. */
export function shardsBytes(tensors: readonly ShapedTensorToWrite[], shardBytes = Number.POSITIVE_INFINITY): number {
  return divide(tensors, shardBytes).reduce((sum, shard) => sum + safetensorsBytes(shard, metadata), 0)
}

const fiveDigits = (value: number): string => String(value).padStart(5, '0')

function divide<T extends ShapedTensorToWrite>(tensors: readonly T[], limit: number): T[][] {
  const shards: T[][] = []
  let room = 0
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor)
    const last = shards.at(-1)
    if (last && bytes <= room) {
      last.push(tensor)
      room -= bytes
    } else {
      shards.push([tensor])
      room = limit - bytes
    }
  }
  return shards
}
