import { type Architecture, linear } from '../common.ts'
import { all, allMixtures, type Dialect, expertEntries, plain, routes, silu, usualHeads } from '../dialect.ts'
import { gatedMlp } from '../read-mixture.ts'
import { readLlamaLike } from './llama.ts'
import { readSwitchedWindows } from './qwen2.ts'
import { readQwenMixture } from './qwen3-moe.ts'

const dialect: Dialect = {
  ...plain,
  architecture: 'qwen2moe',
  needsHead: true,
  expertWidth: 'expert_feed_forward_length',
  problem: all(allMixtures, routes(false), usualHeads, silu),
  config: (keys, sizes) => ({
    ...expertEntries(keys, sizes, 'num_experts', 'moe_intermediate_size'),
    shared_expert_intermediate_size: keys.number('expert_shared_feed_forward_length'),
    norm_topk_prob: false,
    qkv_bias: sizes.queryBias,
  }),
}

/** Qwen2's mixtures, with a shared expert that every token passes through and that has its own gate. */
export const qwen2Moe: Architecture = {
  modelType: 'qwen2_moe',
  title: 'Qwen2 MoE',
  examples: 'Qwen1.5 MoE A2.7B, Qwen2 57B-A14B',
  gguf: { own: dialect },
  read(config, layout, stored) {
    const mixture = readQwenMixture(config, stored)
    const hidden = config.integer('hidden_size')
    const width = config.integer('shared_expert_intermediate_size', 5632)
    return readLlamaLike(config, layout, {
      queryKeyValueBias: config.boolean('qkv_bias', true),
      ...readSwitchedWindows(config),
      mixture: {
        ...mixture,
        tensors: (name, own) => ({
          ...mixture.tensors(name, own),
          shared: gatedMlp(`${name}.mlp.shared_expert`, width, hidden),
          sharedGate: linear(`${name}.mlp.shared_expert_gate`, 1, hidden),
        }),
      },
    })
  },
}
