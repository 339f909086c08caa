import type { Architecture } from '../common.ts'
import type { ConfigReader } from '../config-reader.ts'
import { all, type Dialect, plain, silu, wholeRotary } from '../dialect.ts'
import { readBiases, readLlamaLike } from './llama.ts'

export const graniteDialect: Dialect = {
  ...plain,
  architecture: 'granite',
  interleaved: true,
  takesFactors: true,
  scales: true,
  problem: all(wholeRotary, silu),
  config: (keys) => ({
    embedding_multiplier: keys.optionalNumber('embedding_scale') ?? 1,
    residual_multiplier: keys.optionalNumber('residual_scale') ?? 1,
    attention_multiplier: keys.number('attention.scale'),
    logits_scaling: keys.optionalNumber('logit_scale') ?? 1,
  }),
}

export const readGraniteScales = (config: ConfigReader) => ({
  embeddingScale: config.number('embedding_multiplier', 1),
  scoreScale: config.number('attention_multiplier', 1),
  residualScale: config.number('residual_multiplier', 1),
  logitScale: 1 / config.number('logits_scaling', 1),
})

export const granite: Architecture = {
  modelType: 'granite',
  title: 'Granite',
  examples: 'Granite 3.0 to 3.3 2B and 8B',
  gguf: { own: graniteDialect },
  read: (config, layout) =>
    readLlamaLike(config, layout, {
      ...readBiases(config),
      scales: readGraniteScales(config),
    }),
}
