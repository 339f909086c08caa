import type { Architecture } from './common.ts'
import { readBiases, readLlamaLike } from './llama.ts'
import { readSwitchedWindows } from './qwen2.ts'

export const qwen3: Architecture = {
  read: (config, layout) => readLlamaLike(config, layout, { ...readBiases(config), queryKeyNorm: 'head', ...readSwitchedWindows(config) }),
}
