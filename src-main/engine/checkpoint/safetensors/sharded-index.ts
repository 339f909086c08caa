import { EspalierError } from '#contract/errors.ts'
import { resolveInside } from '#runtime/resolve-inside.ts'
import { describe, findDuplicateKey, isObject, parseObject } from '../json.ts'
import { readText } from '../regular-file.ts'

export const singleFile = 'model.safetensors'
export const indexFile = 'model.safetensors.index.json'

/** Reads which shard of a folder holds which tensor: tensor name to file name. Checks names only, not that the shards exist. */
export async function readIndex(folder: string): Promise<Map<string, string>> {
  const file = await resolveInside(folder, indexFile)
  const text = await readText(file)
  const { weight_map: map } = parseObject(text, file)
  if (!isObject(map)) throw new EspalierError('invalid', `${file} needs an object weight_map, it has ${describe(map)}.`, { file })
  const duplicate = findDuplicateKey(text)
  if (duplicate !== undefined) throw new EspalierError('invalid', `${file} has the key ${describe(duplicate)} twice.`, { file })
  const index = new Map<string, string>()
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string')
      throw new EspalierError('invalid', `${file} places tensor ${name} in ${describe(shard)}, no file name.`, { file })
    index.set(name, shard)
  }
  for (const shard of new Set(index.values())) await resolveInside(folder, shard)
  return index
}
