import type { Checkpoint } from './checkpoint.ts'
import { openGguf } from './gguf/open-gguf.ts'
import { withSeparateExperts } from './interleaved-experts.ts'
import { locateCheckpoint } from './locate-checkpoint.ts'
import { openFolder } from './safetensors/folder.ts'

/**
 * Opens a folder with config.json and safetensors (model.safetensors, or model.safetensors.index.json and its shards), a GGUF file, or a
 * folder with a single GGUF file. Headers are checked against the files before they are trusted. Every defect throws an EspalierError that
 * names it.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const { kind, place } = await locateCheckpoint(path)
  return kind === 'gguf' ? openGguf(place) : withSeparateExperts(await openFolder(place))
}
