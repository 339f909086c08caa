import type { Dialect } from '#engine/architectures/dialect.ts'
import type { Decimals } from '../config-text.ts'
import type { GgufLayout } from './block-layout.ts'
import type { GgufHeader } from './header.ts'
import type { Metadata } from './metadata.ts'
import { type RotaryFactors, readScaling } from './rotary-scaling.ts'

/** Config keys whose values transformers accepts only as decimals. */
export const decimalKeys: Decimals = new Set([
  'rope_theta',
  'rope_local_base_freq',
  'rope_scaling.factor',
  'final_logit_softcapping',
  'attn_logit_softcapping',
  'embedding_multiplier',
  'attention_multiplier',
  'residual_multiplier',
  'logits_scaling',
])

/** Builds transformers' config.json for a GGUF file of a known family. */
export function makeConfig(
  { modelType, dialect }: { modelType: string; dialect: Dialect },
  metadata: Metadata,
  { header, layout, factors }: { header: Pick<GgufHeader, 'tensors'>; layout: GgufLayout; factors: RotaryFactors },
): Record<string, unknown> {
  const hidden = metadata.number('embedding_length')
  const { heads } = layout
  const headSize = metadata.optionalNumber('attention.key_length') ?? hidden / heads
  const rotary = metadata.optionalNumber('rope.dimension_count') ?? headSize
  const window = metadata.optionalNumber('attention.sliding_window')
  if (!Number.isInteger(headSize) || headSize < 2 || headSize % 2 !== 0)
    throw new Error(`its head size is ${headSize}, but must be an even number`)
  const has = (pattern: RegExp) => [...header.tensors.keys()].some((name) => pattern.test(name))
  const [queryBias, outputBias] = [has(/^blk\.\d+\.attn_q\.bias$/), has(/^blk\.\d+\.attn_output\.bias$/)]
  const queryNorm = has(/^blk\.\d+\.attn_q_norm\.weight$/)
  const { count: blocks, expertWidth } = layout
  return {
    model_type: modelType,
    hidden_size: hidden,
    intermediate_size: layout.intermediate,
    num_hidden_layers: blocks,
    num_attention_heads: heads,
    num_key_value_heads: layout.keyValueHeads,
    head_dim: headSize,
    vocab_size: header.tensors.get('token_embd.weight')?.shape[0] ?? 0,
    max_position_embeddings: metadata.number('context_length'),
    ...(metadata.has('attention.layer_norm_epsilon')
      ? { layer_norm_eps: metadata.number('attention.layer_norm_epsilon') }
      : { rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon') }),
    rope_theta: metadata.optionalNumber('rope.freq_base') ?? 10000,
    hidden_act: 'silu',
    tie_word_embeddings: !header.tensors.has('output.weight'),
    attention_bias: queryBias,
    mlp_bias: has(/^blk\.\d+\.ffn_down\.bias$/),
    ...(rotary === headSize ? {} : { partial_rotary_factor: rotary / headSize }),
    ...(window ? { sliding_window: window } : {}),
    ...readScaling(metadata, factors, { size: rotary, wholeYarn: dialect.wholeYarn }),
    ...dialect.config?.(metadata, { blocks, hidden, heads, headSize, rotary, queryBias, outputBias, queryNorm, expertWidth }),
  }
}
