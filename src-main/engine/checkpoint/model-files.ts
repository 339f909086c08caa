import { join } from 'node:path'
import { partsOf } from './gguf/parts.ts'
import { locateCheckpoint } from './locate-checkpoint.ts'
import { exists } from './regular-file.ts'
import { indexFile, readIndex, singleFile } from './safetensors/sharded-index.ts'

/** Everything beside the weights of a folder that a model is read from. A file that is not listed here must not change a number. */
export const modelTexts = {
  config: 'config.json',
  generation: 'generation_config.json',
  tokenizer: 'tokenizer.json',
  tokenizerSettings: 'tokenizer_config.json',
  chatTemplate: 'chat_template.jinja',
  /** What a model pruned by Espalier says about itself. */
  prunedLayout: 'espalier.json',
} as const

/** A file of a model: its name within the model, and its path. It need not exist. */
export interface ModelFile {
  readonly name: string
  readonly path: string
}

/** The files that a model is read from, in a fixed order: texts, then weights. Throws `not-found` if there is no model. */
export async function modelFiles(path: string): Promise<ModelFile[]> {
  const { kind, place } = await locateCheckpoint(path)
  // The name of a GGUF file is no part of the model.
  if (kind === 'gguf') return (await partsOf(place)).map((part, index) => ({ name: `part ${index + 1}`, path: part }))
  const names = [...Object.values(modelTexts), ...(await weightsOf(place))]
  return names.map((name) => ({ name, path: join(place, name) }))
}

async function weightsOf(folder: string): Promise<string[]> {
  if (await exists(join(folder, singleFile))) return [singleFile]
  if (!(await exists(join(folder, indexFile)))) return []
  return [indexFile, ...new Set([...(await readIndex(folder)).values()].sort())]
}
