import type { DecoderSpec } from '#engine/model/spec.ts'
import { type Architecture, linear, readActivation, readSizes } from './common.ts'
import type { ConfigReader } from './config-reader.ts'
import { readRotary } from './rotary.ts'

/** What sets the families with Llama's tensor names apart. */
export interface LlamaTraits {
  queryKeyValueBias(config: ConfigReader): boolean
  outputBias(config: ConfigReader): boolean
  mlpBias(config: ConfigReader): boolean
  /** Sliding window of block `index`, read once per config. */
  slidingWindow(config: ConfigReader): (index: number) => number | undefined
}

/** A spec for checkpoints with Llama's tensor names: RMSNorm, gated MLP, sequential residual, separate projections. */
export function readLlamaLike(
  config: ConfigReader,
  layout: DecoderSpec['blocks'] | undefined,
  family: string,
  traits: LlamaTraits,
): DecoderSpec {
  const sizes = readSizes(config, layout)
  const { hidden, heads, keyValueHeads, headSize, blocks } = sizes
  const bias = traits.queryKeyValueBias(config)
  const outputBias = traits.outputBias(config)
  const mlpBias = traits.mlpBias(config)
  const tied = config.boolean('tie_word_embeddings', false)
  return {
    family,
    ...sizes,
    norm: { kind: 'rms', epsilon: config.number('rms_norm_eps', 1e-6) },
    activation: readActivation(config),
    parallelResidual: false,
    rotary: readRotary(config, headSize),
    slidingWindow: traits.slidingWindow(config),
    embedding: 'model.embed_tokens.weight',
    finalNorm: { weight: 'model.norm.weight' },
    head: { weight: tied ? 'model.embed_tokens.weight' : 'lm_head.weight' },
    block(index) {
      const name = `model.layers.${index}`
      const width = blocks[index]?.width || sizes.intermediate
      return {
        attentionNorm: { weight: `${name}.input_layernorm.weight` },
        query: linear(`${name}.self_attn.q_proj`, heads * headSize, hidden, bias),
        key: linear(`${name}.self_attn.k_proj`, keyValueHeads * headSize, hidden, bias),
        value: linear(`${name}.self_attn.v_proj`, keyValueHeads * headSize, hidden, bias),
        output: linear(`${name}.self_attn.o_proj`, hidden, heads * headSize, outputBias),
        mlpNorm: { weight: `${name}.post_attention_layernorm.weight` },
        gate: linear(`${name}.mlp.gate_proj`, width, hidden, mlpBias),
        up: linear(`${name}.mlp.up_proj`, width, hidden, mlpBias),
        down: linear(`${name}.mlp.down_proj`, hidden, width, mlpBias),
      }
    },
  }
}

export const llama: Architecture = {
  title: 'Llama',
  modelType: 'llama',
  read: (config, layout) =>
    readLlamaLike(config, layout, 'llama', {
      queryKeyValueBias: (fields) => fields.boolean('attention_bias', false),
      outputBias: (fields) => fields.boolean('attention_bias', false),
      mlpBias: (fields) => fields.boolean('mlp_bias', false),
      slidingWindow: () => () => undefined,
    }),
}
