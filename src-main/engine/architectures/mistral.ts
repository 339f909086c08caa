import { type Architecture, readWindows } from './common.ts'
import { readLlamaLike } from './llama.ts'

export const mistral: Architecture = {
  title: 'Mistral',
  modelType: 'mistral',
  examples: 'Mistral 7B v0.1 to v0.3, Mistral Nemo, Mistral Small 24B',
  read: (config, layout) => readLlamaLike(config, layout, { slidingWindow: readWindows(config, () => true) }),
}
