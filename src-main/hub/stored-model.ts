import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readSmallFile } from '#runtime/small-file.ts'

const shardIndex = z.object({ weight_map: z.record(z.string(), z.string()) })

/** Returns the names of the files that a model folder lacks; empty if it is complete. */
export async function missingModelFiles(folder: string): Promise<string[]> {
  const names: string[] = await readdir(folder).catch(() => [])
  const missing = names.includes('config.json') ? [] : ['config.json']
  if (!names.some((name) => /^tokenizer\.(json|model)$|^vocab\.json$/.test(name))) missing.push('tokenizer.json')
  return [...missing, ...(await missingWeights(folder, names))].filter((name) => !existsSync(join(folder, name)))
}

async function missingWeights(folder: string, names: string[]): Promise<string[]> {
  if (names.includes('model.safetensors')) return ['model.safetensors']
  const index = await readSmallFile(join(folder, 'model.safetensors.index.json')).catch(() => undefined)
  if (index === undefined) return names.some((name) => name.endsWith('.safetensors')) ? [] : ['model.safetensors']
  const parsed = shardIndex.safeParse(parseJson(index))
  return parsed.success ? [...new Set(Object.values(parsed.data.weight_map))] : ['model.safetensors.index.json (it is damaged)']
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
