import { join } from 'node:path'
import { entriesBytes, type GgufTensorToWrite, ggufBytes, type MetadataEntries, storedBytes, writeGguf } from './write-gguf.ts'

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
