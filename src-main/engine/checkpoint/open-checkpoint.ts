import { stat } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import type { Checkpoint } from './checkpoint.ts'
import { openFolder } from './folder.ts'
import { openGguf } from './gguf/open-gguf.ts'

/**
 * Opens a folder with config.json and model.safetensors, or with model.safetensors.index.json and its shards, or a .gguf file.
 * Everything that the headers say is checked against the files before it is trusted; each defect is one EspalierError that names it.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const found = await stat(path).catch(() => undefined)
  if (!found)
    throw new EspalierError('not-found', `There is no model at ${path}. Give a folder with config.json and safetensors, or a gguf file.`)
  if (found.isDirectory()) return openFolder(path)
  if (path.toLowerCase().endsWith('.gguf')) return openGguf(path)
  throw new EspalierError('invalid', `${path} is neither a model folder nor a gguf file. Give a folder with config.json and safetensors.`)
}
