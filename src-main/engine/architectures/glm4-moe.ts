import { type Architecture, readHeadSize } from './common.ts'
import { readLlamaLike } from './llama.ts'
import { gatedMlp, mixtureOf, readExperts, readGroups, storedExperts } from './mixture.ts'
import { readRotary } from './rotary.ts'

/** GLM-4.5: sigmoid scores with a correction for the choice, groups of experts, a shared expert, dense blocks in front. */
export const glm4Moe: Architecture = {
  title: 'GLM-4.5 MoE',
  examples: 'GLM-4.5-Air, GLM-4.5 and 4.6',
  read(config, layout, stored) {
    const hidden = config.integer('hidden_size')
    const { router, experts, width } = readExperts(config, {
      countKeys: ['n_routed_experts'],
      count: 128,
      chosen: 8,
      widthKey: 'moe_intermediate_size',
      width: 1408,
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
          ...readGroups(config, experts),
          scores: 'sigmoid',
          renormalised: config.boolean('norm_topk_prob', true),
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
