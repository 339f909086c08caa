import type { Architecture } from './common.ts'
import { readBiases, readLlamaLike } from './llama.ts'
import { readSwitchedWindows } from './qwen2.ts'

export const qwen3: Architecture = {
  title: 'Qwen3',
  modelType: 'qwen3',
  examples: 'Qwen3 0.6B to 32B, DeepSeek-R1-0528-Qwen3-8B',
  read: (config, layout) => readLlamaLike(config, layout, { ...readBiases(config), queryKeyNorm: 'head', ...readSwitchedWindows(config) }),
}
