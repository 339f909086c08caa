import { EspalierError } from '#contract/errors.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { describe, findDuplicateKey, isObject, parseObject } from '../json.ts'
import { readText } from '../regular-file.ts'

export const singleFile = 'model.safetensors'
export const indexFile = 'model.safetensors.index.json'

/** Reads a folder's shard index: tensor name to file name. Checks that file names stay inside the folder, not that the shards exist. */
export async function readIndex(folder: string): Promise<Map<string, string>> {
  const file = await resolveInside(folder, indexFile)
  const text = await readText(file)
  const { weight_map: map } = parseObject(text, file)
  if (!isObject(map)) throw new EspalierError('invalid', `${file} must have an object "weight_map", but has ${describe(map)}.`, { file })
  const duplicate = findDuplicateKey(text)
  if (duplicate !== undefined) throw new EspalierError('invalid', `${file} has the key ${describe(duplicate)} twice.`, { file })
  const index = new Map<string, string>()
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string')
      throw new EspalierError('invalid', `${file} places tensor ${name} in ${describe(shard)}, which is not a file name.`, { file })
    index.set(name, shard)
  }
  for (const shard of new Set(index.values())) await resolveInside(folder, shard)
  return index
}
