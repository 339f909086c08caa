import { type Architecture, readSliding, readWindows, slidingTypes } from '../common.ts'
import type { ConfigReader } from '../config-reader.ts'
import { deci, plain } from '../dialect.ts'
import { type LlamaTraits, readLlamaLike } from './llama.ts'

/** Reads Qwen2's windows: only blocks with an index of at least max_window_layers have one, and only if the config turns windows on. */
export function readSwitchedWindows(config: ConfigReader): LlamaTraits {
  const first = config.count('max_window_layers', 28)
  const sliding = readSliding(config, (index) => index >= first)
  const perBlock = config.has('layer_types') ? { perBlock: slidingTypes(config, sliding) } : {}
  if (!config.boolean('use_sliding_window', false)) return perBlock
  return { ...perBlock, slidingWindow: readWindows(config, sliding) }
}

export const qwen2: Architecture = {
  modelType: 'qwen2',
  title: 'Qwen2',
  examples: 'Qwen2, Qwen2.5, DeepSeek-R1-Distill-Qwen',
  gguf: { own: { ...plain, architecture: 'qwen2' }, perBlock: deci },
  read: (config, layout) => readLlamaLike(config, layout, { queryKeyValueBias: true, ...readSwitchedWindows(config) }),
}
