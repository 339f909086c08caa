import type { Checkpoint } from './checkpoint.ts'
import { openGguf } from './gguf/open-gguf.ts'
import { withSeparateExperts } from './interleaved-experts.ts'
import { locateCheckpoint } from './locate-checkpoint.ts'
import { openFolder } from './safetensors/folder.ts'

/**
 * Opens a folder with config.json and model.safetensors, or with model.safetensors.index.json and its shards, a .gguf file, or a
 * folder with nothing but one.
 * Everything that the headers say is checked against the files before it is trusted; each defect is one EspalierError that names it.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const { kind, place } = await locateCheckpoint(path)
  return kind === 'gguf' ? openGguf(place) : withSeparateExperts(await openFolder(place))
}
