import type { Architecture } from './common.ts'
import { readLlamaLike } from './llama.ts'

export const qwen2: Architecture = {
  title: 'Qwen2',
  modelType: 'qwen2',
  read: (config, layout) =>
    readLlamaLike(config, layout, 'qwen2', {
      queryKeyValueBias: () => true,
      outputBias: () => false,
      mlpBias: () => false,
      // Only blocks from max_window_layers on slide, and only when the config switches it on.
      slidingWindow: (fields) => {
        const window = fields.boolean('use_sliding_window', false) ? fields.optionalInteger('sliding_window') : undefined
        const first = window ? fields.integer('max_window_layers') : 0
        return (index) => (window && index >= first ? window : undefined)
      },
    }),
}
