import { EspalierError } from '#contract/errors.ts'
import type { Activation, BlockLayout, DecoderSpec, Projection } from '#engine/model/spec.ts'
import type { ConfigReader } from './config-reader.ts'

/** One model family: which configs are its own, and how a config becomes a spec. */
export interface Architecture {
  readonly title: string
  readonly modelType: string
  read(config: ConfigReader, layout: readonly BlockLayout[] | undefined): DecoderSpec
}

const activations: Record<string, Activation> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
}

export function readActivation(config: ConfigReader): Activation {
  const name = config.text('hidden_act', 'silu')
  const activation = activations[name]
  if (!activation)
    throw new EspalierError('invalid', `config.json has "hidden_act" = "${name}". Known are: ${Object.keys(activations).join(', ')}.`)
  return activation
}

/** The sizes that every family names alike. */
export function readSizes(config: ConfigReader, layout: readonly BlockLayout[] | undefined) {
  const hidden = config.integer('hidden_size')
  const intermediate = config.integer('intermediate_size')
  const heads = config.integer('num_attention_heads')
  const keyValueHeads = config.integer('num_key_value_heads', heads)
  const headSize = config.optionalInteger('head_dim') ?? hidden / heads
  if (!Number.isInteger(headSize)) {
    throw new EspalierError(
      'invalid',
      `config.json: hidden_size ${hidden} is no multiple of num_attention_heads ${heads}, and there is no "head_dim".`,
    )
  }
  if (heads % keyValueHeads !== 0) {
    throw new EspalierError(
      'invalid',
      `config.json: num_attention_heads ${heads} must be a multiple of num_key_value_heads ${keyValueHeads}.`,
    )
  }
  const count = config.integer('num_hidden_layers')
  if (count > 1000) throw new EspalierError('invalid', `config.json has "num_hidden_layers" = ${count}; at most 1000 are allowed.`)
  const blocks = layout ?? Array.from({ length: count }, () => ({ attention: true, width: intermediate }))
  return {
    blocks,
    hidden,
    intermediate,
    heads,
    keyValueHeads,
    headSize,
    vocabulary: config.integer('vocab_size'),
    contextLength: config.integer('max_position_embeddings', 2048),
  }
}

/** A projection stored as a tensor of its own: `name.weight` [rows, columns], with `name.bias` when asked for. */
export function linear(name: string, rows: number, columns: number, bias = false): Projection {
  return { weight: `${name}.weight`, firstRow: 0, rows, columns, ...(bias ? { bias: `${name}.bias` } : {}) }
}
