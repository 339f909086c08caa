import { type Architecture, readWindows } from '../common.ts'
import { deci, llamaDialect } from '../dialect.ts'
import { readLlamaLike } from './llama.ts'

export const mistral: Architecture = {
  modelType: 'mistral',
  title: 'Mistral',
  examples: 'Mistral 7B, Mistral Nemo, Mistral Small 24B (2501)',
  gguf: { own: llamaDialect, perBlock: deci },
  read: (config, layout) => readLlamaLike(config, layout, { slidingWindow: readWindows(config, () => true) }),
}
