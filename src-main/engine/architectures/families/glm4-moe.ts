import { type Architecture, readHeadSize } from '../common.ts'
import { type Dialect, expertEntries, inner, plain } from '../dialect.ts'
import { gatedMlp, mixtureOf, readExperts, readGroups, storedExperts } from '../read-mixture.ts'
import { readRotary } from '../rotary-frequencies.ts'
import { readLlamaLike } from './llama.ts'

const dialect: Dialect = {
  ...plain,
  architecture: 'glm4moe',
  norms: { attentionNorm: 'attn_norm', mlpNorm: 'post_attention_norm', ...inner },
  expertWidth: 'expert_feed_forward_length',
  sharesWidth: true,
  config: (keys, sizes) => ({
    ...expertEntries(keys, sizes, 'n_routed_experts', 'moe_intermediate_size'),
    n_shared_experts: keys.number('expert_shared_count'),
    first_k_dense_replace: keys.optionalNumber('leading_dense_block_count') ?? 0,
    n_group: keys.optionalNumber('expert_group_count') ?? 1,
    topk_group: keys.optionalNumber('expert_group_used_count') ?? 1,
    norm_topk_prob: keys.flag('expert_weights_norm') ?? false,
    routed_scaling_factor: keys.optionalNumber('expert_weights_scale') ?? 1,
    use_qk_norm: sizes.queryNorm,
  }),
}

/** GLM-4.5: sigmoid scores with a correction for choosing experts, groups of experts, a shared expert, and dense blocks at the start. */
export const glm4Moe: Architecture = {
  modelType: 'glm4_moe',
  title: 'GLM-4.5 MoE',
  examples: 'GLM-4.5-Air, GLM-4.5 and 4.6',
  substitutesExperts: true,
  gguf: { own: dialect },
  read(config, layout, stored) {
    const hidden = config.integer('hidden_size')
    const { router, experts, width } = readExperts(config, {
      countKeys: ['n_routed_experts'],
      count: 128,
      chosen: 8,
      widthKey: 'moe_intermediate_size',
      width: 1408,
      renormalised: config.boolean('norm_topk_prob', true),
    })
    const shared = config.integer('n_shared_experts', 1) * width
    const first = config.count('first_k_dense_replace', 1)
    const rotary = readRotary(config, readHeadSize(config), { share: 0.5 })
    return readLlamaLike(config, layout, {
      queryKeyValueBias: config.boolean('attention_bias', false),
      epsilon: 1e-5,
      ...(config.boolean('use_qk_norm', false) ? { queryKeyNorm: 'head' as const } : {}),
      rotary: () => rotary,
      mixture: {
        router: {
          ...router,
          ...readGroups(config, experts, router.chosen),
          scores: 'sigmoid',
          scale: config.number('routed_scaling_factor', 1),
        },
        experts,
        width,
        mixes: (index) => index >= first,
        tensors: (name, own) =>
          mixtureOf(`${name}.mlp.gate`, storedExperts(`${name}.mlp.experts`, { hidden, layout: own }, { stored }), hidden, {
            correction: { weight: `${name}.mlp.gate.e_score_correction_bias`, shape: [own.experts ?? experts] },
            shared: gatedMlp(`${name}.mlp.shared_experts`, shared, hidden),
          }),
      },
    })
  },
}
