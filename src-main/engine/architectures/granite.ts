import type { Architecture } from './common.ts'
import { readBiases, readLlamaLike } from './llama.ts'

export const granite: Architecture = {
  read: (config, layout) =>
    readLlamaLike(config, layout, {
      ...readBiases(config),
      scales: {
        embeddingScale: config.number('embedding_multiplier', 1),
        scoreScale: config.number('attention_multiplier', 1),
        residualScale: config.number('residual_multiplier', 1),
        logitScale: 1 / config.number('logits_scaling', 1),
      },
    }),
}
