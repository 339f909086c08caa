import { type Architecture, linear, readActivation, readSizes } from '../common.ts'
import { type Dialect, plain, usualHeads } from '../dialect.ts'
import { readRotary } from '../rotary-frequencies.ts'

const dialect: Dialect = {
  ...plain,
  architecture: 'phi2',
  needsHead: true,
  problem: usualHeads,
  config: (_, { rotary, headSize }) => ({ hidden_act: 'gelu_new', partial_rotary_factor: rotary / headSize }),
}

/**
 * Phi (1, 1.5, 2): LayerNorm, biases everywhere, partial rotary, and an MLP without gates that runs in parallel to attention, after a
 * shared norm.
 */
export const phi: Architecture = {
  modelType: 'phi',
  title: 'Phi',
  examples: 'Phi-1, 1.5 and 2',
  gguf: { own: dialect },
  read(config, layout) {
    config.refuse('qk_layernorm', true, 'norms on queries and keys are not supported')
    const sizes = readSizes(config, layout)
    const { hidden, heads, keyValueHeads, headSize, blocks } = sizes
    const rotary = readRotary(config, headSize, { share: 0.5 })
    const tied = config.boolean('tie_word_embeddings', false)
    return {
      family: 'phi',
      ...sizes,
      norm: { kind: 'layer', epsilon: config.number('layer_norm_eps', 1e-5) },
      activation: readActivation(config),
      parallelResidual: true,
      rotary: () => rotary,
      slidingWindow: () => undefined,
      embedding: 'model.embed_tokens.weight',
      finalNorm: { weight: 'model.final_layernorm.weight', bias: 'model.final_layernorm.bias' },
      head: { weight: tied ? 'model.embed_tokens.weight' : 'lm_head.weight', bias: 'lm_head.bias' },
      block(index, named = index) {
        const name = `model.layers.${named}`
        const width = blocks[index]?.width || sizes.intermediate
        return {
          attentionNorm: { weight: `${name}.input_layernorm.weight`, bias: `${name}.input_layernorm.bias` },
          query: linear(`${name}.self_attn.q_proj`, heads * headSize, hidden, true),
          key: linear(`${name}.self_attn.k_proj`, keyValueHeads * headSize, hidden, true),
          value: linear(`${name}.self_attn.v_proj`, keyValueHeads * headSize, hidden, true),
          output: linear(`${name}.self_attn.dense`, hidden, heads * headSize, true),
          up: linear(`${name}.mlp.fc1`, width, hidden, true),
          down: linear(`${name}.mlp.fc2`, hidden, width, true),
        }
      },
    }
  },
}
