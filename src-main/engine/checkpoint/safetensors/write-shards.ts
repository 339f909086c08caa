import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { indexFile, singleFile } from './sharded-index.ts'
import { type ShapedTensorToWrite, safetensorsBytes, type TensorToWrite, tensorBytes, writeSafetensors } from './write-safetensors.ts'

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
