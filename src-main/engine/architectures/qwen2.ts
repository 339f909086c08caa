import { type Architecture, readSliding, readWindows } from './common.ts'
import type { ConfigReader } from './config-reader.ts'
import { readLlamaLike } from './llama.ts'

/** Only blocks from max_window_layers on slide, and only when the config switches it on. */
export function readSwitchedWindows(config: ConfigReader): (index: number) => number | undefined {
  if (!config.boolean('use_sliding_window', false) || !config.has('sliding_window')) return () => undefined
  const first = config.count('max_window_layers', 28)
  return readWindows(
    config,
    readSliding(config, (index) => index >= first),
  )
}

export const qwen2: Architecture = {
  title: 'Qwen2',
  modelType: 'qwen2',
  examples: 'Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen',
  read: (config, layout) => readLlamaLike(config, layout, { queryKeyValueBias: true, slidingWindow: readSwitchedWindows(config) }),
}
