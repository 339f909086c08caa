import { join } from 'node:path'
import { partsOf } from './gguf/parts.ts'
import { locateCheckpoint } from './locate-checkpoint.ts'
import { exists } from './regular-file.ts'
import { indexFile, readIndex, singleFile } from './safetensors/folder.ts'

/** The files that are read from a model's folder besides its weights. A file that is not listed here must not change any result. */
export const modelTexts = {
  config: 'config.json',
  generation: 'generation_config.json',
  tokenizer: 'tokenizer.json',
  tokenizerSettings: 'tokenizer_config.json',
  chatTemplate: 'chat_template.jinja',
  /** Describes the blocks of a model that Espalier pruned, and the plan that produced it. */
  prunedLayout: 'espalier.json',
} as const

/** A file that may belong to a model: its name within the model, and its path. It may be absent. */
export interface ModelFile {
  readonly name: string
  readonly path: string
}

/** Lists the files that a model is read from in a fixed order: text files, then weights. Throws `not-found` if there is no model. */
export async function modelFiles(path: string): Promise<ModelFile[]> {
  const { kind, place } = await locateCheckpoint(path)
  // A GGUF file may be renamed without becoming another model, so parts are named by their number.
  if (kind === 'gguf') return (await partsOf(place)).map((part, index) => ({ name: `part ${index + 1}`, path: part }))
  const names = [...Object.values(modelTexts), ...(await weightsOf(place))]
  return names.map((name) => ({ name, path: join(place, name) }))
}

async function weightsOf(folder: string): Promise<string[]> {
  if (await exists(join(folder, singleFile))) return [singleFile]
  if (!(await exists(join(folder, indexFile)))) return []
  return [indexFile, ...new Set([...(await readIndex(folder)).values()].sort())]
}
