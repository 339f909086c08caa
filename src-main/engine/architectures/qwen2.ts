import { type Architecture, readSliding, readWindows, slidingTypes } from './common.ts'
import type { ConfigReader } from './config-reader.ts'
import { type LlamaTraits, readLlamaLike } from './llama.ts'

/** Only blocks from max_window_layers on slide, and only when the config switches it on. */
export function readSwitchedWindows(config: ConfigReader): LlamaTraits {
  const first = config.count('max_window_layers', 28)
  const sliding = readSliding(config, (index) => index >= first)
  const perBlock = config.has('layer_types') ? { perBlock: slidingTypes(config, sliding) } : {}
  if (!config.boolean('use_sliding_window', false)) return perBlock
  return { ...perBlock, slidingWindow: readWindows(config, sliding) }
}

export const qwen2: Architecture = {
  read: (config, layout) => readLlamaLike(config, layout, { queryKeyValueBias: true, ...readSwitchedWindows(config) }),
}
