import type { Architecture } from './common.ts'
import { readLlamaLike } from './llama.ts'

export const mistral: Architecture = {
  title: 'Mistral',
  modelType: 'mistral',
  read: (config, layout) =>
    readLlamaLike(config, layout, 'mistral', {
      queryKeyValueBias: () => false,
      outputBias: () => false,
      mlpBias: () => false,
      slidingWindow: (fields) => {
        const window = fields.optionalInteger('sliding_window')
        return () => window
      },
    }),
}
