import type { Architecture } from '../common.ts'
import type { ConfigReader } from '../config-reader.ts'
import { all, allMixtures, type Dialect, expertEntries, inner, plain, routes, silu } from '../dialect.ts'
import { type MixtureTraits, mixtureOf, readExperts, storedExperts } from '../read-mixture.ts'
import { readBiases, readLlamaLike } from './llama.ts'
import { readSwitchedWindows } from './qwen2.ts'

/**
 * Reads the mixtures of Qwen models. Some blocks may be dense, and configs written by transformers 5 use another key for the number of
 * experts.
 */
export function readQwenMixture(config: ConfigReader, stored: (name: string) => boolean): MixtureTraits {
  const experts = readExperts(config, {
    countKeys: ['num_experts', 'num_local_experts'],
    count: 128,
    chosen: 8,
    widthKey: 'moe_intermediate_size',
    width: 768,
    renormalised: config.boolean('norm_topk_prob', false),
  })
  const step = config.integer('decoder_sparse_step', 1)
  const dense = config.places('mlp_only_layers')
  const hidden = config.integer('hidden_size')
  return {
    ...experts,
    mixes: (index) => !dense.includes(index) && (index + 1) % step === 0,
    tensors: (name, layout) => mixtureOf(`${name}.mlp.gate`, storedExperts(`${name}.mlp.experts`, { hidden, layout }, { stored }), hidden),
  }
}

const dialect: Dialect = {
  ...plain,
  architecture: 'qwen3moe',
  norms: { ...plain.norms, ...inner },
  expertWidth: 'expert_feed_forward_length',
  problem: all(allMixtures, routes(true), silu),
  config: (keys, sizes) => ({ ...expertEntries(keys, sizes, 'num_experts', 'moe_intermediate_size'), norm_topk_prob: true }),
}

export const qwen3Moe: Architecture = {
  modelType: 'qwen3_moe',
  title: 'Qwen3 MoE',
  examples: 'Qwen3 30B-A3B and 235B-A22B',
  substitutesExperts: true,
  gguf: { own: dialect },
  read: (config, layout, stored) =>
    readLlamaLike(config, layout, {
      ...readBiases(config),
      queryKeyNorm: 'head',
      ...readSwitchedWindows(config),
      mixture: readQwenMixture(config, stored),
    }),
}
