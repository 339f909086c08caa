import { join } from 'node:path'
import { entriesBytes, type GgufTensorToWrite, ggufBytes, type MetadataEntries, storedBytes, writeGguf } from './write-gguf.ts'

/** A file with more bytes of tensors is split, as hubs and file systems prefer. */
const usualShardBytes = 5e9

/** The files that `writeGgufShards` writes, the one to open first. */
export function shardNames(name: string, tensors: readonly GgufTensorToWrite[], limit = usualShardBytes): string[] {
  const count = divide(tensors, limit).length
  return count === 1 ? [`${name}.gguf`] : Array.from({ length: count }, (_, index) => shardName(name, index, count))
}

/** Writes one file, or several if one would exceed the limit. The first of several holds the metadata of all. */
export async function writeGgufShards(
  folder: string,
  name: string,
  { metadata, tensors }: { metadata: MetadataEntries; tensors: readonly GgufTensorToWrite[] },
  limit = usualShardBytes,
): Promise<void> {
  const shards = divide(tensors, limit)
  const names = shardNames(name, tensors, limit)
  for (const [index, shard] of shards.entries()) {
    const own: MetadataEntries = new Map([...(index === 0 ? metadata : []), ...splitEntries(index, shards.length, tensors.length)])
    await writeGguf(join(folder, names[index] as string), own, shard)
  }
}

/** Bytes of all the files that `writeGgufShards` writes, with this many bytes of metadata. */
export function ggufShardsBytes(metadata: number, tensors: readonly GgufTensorToWrite[], limit = usualShardBytes): number {
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

/** How llama.cpp names the parts of a file. */
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
