import { findPlace, textConfigOf } from '#engine/architectures/spec.ts'
import { type Architecture, linear } from '../common.ts'
import type { ConfigReader } from '../config-reader.ts'
import { all, allMixtures, type Dialect, expertEntries, routes } from '../dialect.ts'
import { gatedMlp, type MixtureTraits, mixtureOf, readExperts, storedExperts } from '../read-mixture.ts'
import { qwen35Dialect, readQwen35 } from './qwen3-5.ts'

const dialect: Dialect = {
  ...qwen35Dialect,
  architecture: 'qwen35moe',
  family: 'qwen3_5_moe_text',
  expertWidth: 'expert_feed_forward_length',
  problem: all(allMixtures, routes(true), qwen35Dialect.problem),
  config: (keys, sizes) => ({
    ...qwen35Dialect.config?.(keys, sizes),
    ...expertEntries(keys, sizes, 'num_experts', 'moe_intermediate_size'),
    shared_expert_intermediate_size: keys.number('expert_shared_feed_forward_length'),
  }),
}

/** Qwen3.5's mixtures: experts in two tensors, as in the published files, and a shared expert with a gate. */
function readMixture(config: ConfigReader, stored: (name: string) => boolean, fused: boolean): MixtureTraits {
  const hidden = config.integer('hidden_size')
  const experts = readExperts(config, {
    countKeys: ['num_experts'],
    count: 256,
    chosen: 8,
    widthKey: 'moe_intermediate_size',
    width: 512,
    renormalised: true,
  })
  const shared = config.integer('shared_expert_intermediate_size', 512)
  return {
    ...experts,
    tensors: (name, layout) =>
      mixtureOf(`${name}.mlp.gate`, storedExperts(`${name}.mlp.experts`, { hidden, layout }, { stored, fused }), hidden, {
        shared: gatedMlp(`${name}.mlp.shared_expert`, shared, hidden),
        sharedGate: linear(`${name}.mlp.shared_expert_gate`, 1, hidden),
      }),
  }
}

export const qwen35MoeText: Architecture = {
  modelType: 'qwen3_5_moe_text',
  title: 'Qwen3.5 MoE',
  examples: 'text models made from Qwen3.5 MoE',
  gguf: { own: dialect },
  read: (config, layout, stored) => readQwen35(config, layout, { mixture: readMixture(config, stored, false) }),
}

const describeText = (config: Record<string, unknown>) =>
  textConfigOf(config, { architectures: ['Qwen3_5MoeForCausalLM'], model_type: 'qwen3_5_moe_text', head_dim: 256 })

/** The text part of Qwen3.5 MoE models that also read images. */
export const qwen35Moe: Architecture = {
  modelType: 'qwen3_5_moe',
  title: 'Qwen3.5 MoE with images, its text part',
  examples: 'Qwen3.5 35B-A3B to 397B-A17B',
  gguf: { own: dialect },
  textConfig: describeText,
  read(config, layout, stored) {
    const text = config.textPart(describeText)
    return readQwen35(text, layout, { place: findPlace(stored), mixture: readMixture(text, stored, true) })
  },
}
