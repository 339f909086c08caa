import type { Architecture } from '../common.ts'
import { all, type Check, type Dialect, expertEntries, inner, plain, routes, silu, usualHeads } from '../dialect.ts'
import { mixtureOf, readExperts, storedExperts } from '../read-mixture.ts'
import { readBiases, readLlamaLike } from './llama.ts'

const unclipped: Check = ({ projectionLimit }) =>
  projectionLimit === undefined
    ? undefined
    : `llama.cpp does not clip queries, keys and values, which this model does at ${projectionLimit}`

const dialect: Dialect = {
  ...plain,
  architecture: 'olmoe',
  norms: { ...plain.norms, ...inner },
  expertWidth: 'feed_forward_length',
  problem: all(unclipped, routes(false), usualHeads, silu),
  config: (keys, sizes) => ({ ...expertEntries(keys, sizes, 'num_experts'), norm_topk_prob: false }),
}

/** OLMoE (arXiv 2409.02060): norms over whole queries and keys, and weights of the chosen experts that do not sum to 1. */
export const olmoe: Architecture = {
  modelType: 'olmoe',
  title: 'OLMoE',
  examples: 'OLMoE 1B-7B',
  substitutesExperts: true,
  gguf: { own: dialect },
  read(config, layout, stored) {
    const hidden = config.integer('hidden_size')
    const experts = readExperts(config, {
      countKeys: ['num_experts'],
      count: 64,
      chosen: 8,
      widthKey: 'intermediate_size',
      width: 2048,
      renormalised: config.boolean('norm_topk_prob', false),
    })
    return readLlamaLike(config, layout, {
      ...readBiases(config),
      epsilon: 1e-5,
      queryKeyNorm: 'whole',
      projectionLimit: config.has('clip_qkv') ? config.number('clip_qkv') : undefined,
      mixture: {
        ...experts,
        tensors: (name, own) =>
          mixtureOf(`${name}.mlp.gate`, storedExperts(`${name}.mlp.experts`, { hidden, layout: own }, { stored }), hidden),
      },
    })
  },
}
