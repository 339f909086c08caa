import type { GgufFamily } from './families.ts'
import type { GgufHeader } from './header.ts'
import type { Metadata } from './metadata.ts'
import { type RotaryFactors, readScaling } from './rotary-scaling.ts'

/** The config.json that transformers would have for a GGUF file of a known family. */
export function makeConfig(family: GgufFamily, metadata: Metadata, header: GgufHeader, factors: RotaryFactors): Record<string, unknown> {
  const hidden = metadata.number('embedding_length')
  const heads = metadata.number('attention.head_count')
  const headSize = metadata.optionalNumber('attention.key_length') ?? hidden / heads
  const rotary = metadata.optionalNumber('rope.dimension_count') ?? headSize
  const window = metadata.optionalNumber('attention.sliding_window')
  if (!Number.isInteger(headSize) || headSize < 2 || headSize % 2 !== 0)
    throw new Error(`its head size is ${headSize}, an even number is needed`)
  const has = (name: string) => header.tensors.has(name)
  return {
    model_type: family.modelType,
    hidden_size: hidden,
    intermediate_size: metadata.number('feed_forward_length'),
    num_hidden_layers: metadata.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: metadata.optionalNumber('attention.head_count_kv') ?? heads,
    head_dim: headSize,
    vocab_size: header.tensors.get('token_embd.weight')?.shape[0] ?? 0,
    max_position_embeddings: metadata.number('context_length'),
    rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon'),
    rope_theta: metadata.optionalNumber('rope.freq_base') ?? 10000,
    hidden_act: 'silu',
    tie_word_embeddings: !has('output.weight'),
    attention_bias: has('blk.0.attn_q.bias'),
    mlp_bias: has('blk.0.ffn_down.bias'),
    ...(rotary === headSize ? {} : { partial_rotary_factor: rotary / headSize }),
    ...(window ? { sliding_window: window } : {}),
    ...readScaling(metadata, factors, rotary),
  }
}
