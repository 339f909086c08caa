import { type Architecture, readWindows } from './common.ts'
import { readLlamaLike } from './llama.ts'

export const mistral: Architecture = {
  read: (config, layout) => readLlamaLike(config, layout, { slidingWindow: readWindows(config, () => true) }),
}
