import type { Checkpoint } from './checkpoint.ts'
import { openGguf } from './gguf/open-gguf.ts'
import { withSeparateExperts } from './interleaved-experts.ts'
import { locateCheckpoint } from './locate-checkpoint.ts'
import { openFolder } from './safetensors/folder.ts'

/**
 * Opens a folder with config.json and model.safetensors, or with model.safetensors.index.json and its shards, a .gguf file, or a folder
 * with a single one. Everything in the headers is checked against the files before it is trusted. Each defect is one EspalierError that
 * names it.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const { kind, place } = await locateCheckpoint(path)
  return kind === 'gguf' ? openGguf(place) : withSeparateExperts(await openFolder(place))
}
