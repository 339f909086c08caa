import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { BlockLayout, DecoderSpec, DeltaShape, DeltaTensors } from '#engine/architectures/spec.ts'
import { findPlace, textConfigOf } from '#engine/architectures/spec.ts'
import { type Architecture, linear, readHeadSize } from '../common.ts'
import type { ConfigReader } from '../config-reader.ts'
import { all, type Dialect, inner, plain, silu } from '../dialect.ts'
import { readRotary } from '../rotary-frequencies.ts'
import { type LlamaTraits, type Mixer, readBiases, readLlamaLike } from './llama.ts'

const intervalOf = ({ blocks, block }: DecoderSpec): number => blocks.findIndex((_, index) => !block(index).delta) + 1

/** Checks two assumptions of llama.cpp: attention is in every n-th block, and the key and value heads of a DeltaNet have the same size. */
const counted = (spec: DecoderSpec): string | undefined => {
  const { blocks, block, delta } = spec
  if (delta?.keySize !== delta?.valueSize) return "llama.cpp has one size for a DeltaNet's keys and values, but this model has two"
  const interval = intervalOf(spec)
  return interval > 1 && blocks.every((_, index) => (block(index).delta === undefined) === ((index + 1) % interval === 0))
    ? undefined
    : 'llama.cpp has attention at a fixed interval of blocks, but this model has it in other blocks'
}

/** GGUF files of Qwen3.5 without experts. */
export const qwen35Dialect: Dialect = {
  ...plain,
  architecture: 'qwen35',
  family: 'qwen3_5_text',
  norms: { attentionNorm: 'attn_norm', mlpNorm: 'post_attention_norm', ...inner },
  keepsPlaces: true,
  rotarySections: true,
  problem: all(counted, silu),
  keys(spec) {
    const [shape, { convolution, gate }] = [spec.delta as DeltaShape, spec.block(0).delta as DeltaTensors]
    return {
      'ssm.conv_kernel': at(convolution.shape, 2),
      'ssm.state_size': shape.keySize,
      'ssm.group_count': shape.keyHeads,
      'ssm.time_step_rank': shape.valueHeads,
      'ssm.inner_size': gate.rows,
      full_attention_interval: intervalOf(spec),
    }
  },
  config: (keys, { rotary, headSize }) => ({
    linear_conv_kernel_dim: keys.number('ssm.conv_kernel'),
    linear_key_head_dim: keys.number('ssm.state_size'),
    linear_num_key_heads: keys.number('ssm.group_count'),
    linear_num_value_heads: keys.number('ssm.time_step_rank'),
    linear_value_head_dim: keys.number('ssm.inner_size') / keys.number('ssm.time_step_rank'),
    full_attention_interval: keys.optionalNumber('full_attention_interval') ?? 4,
    partial_rotary_factor: rotary / headSize,
  }),
}

/** Qwen3.5: three of every four blocks have a Gated DeltaNet instead of attention. Attention has a gate on each head's output. */
export function readQwen35(
  config: ConfigReader,
  layout: readonly BlockLayout[] | undefined,
  traits: Pick<LlamaTraits, 'place' | 'mixture'> = {},
): DecoderSpec {
  const count = config.integer('num_hidden_layers')
  const interval = config.integer('full_attention_interval', 4)
  const types =
    config.choices('layer_types', count, ['linear_attention', 'full_attention']) ??
    Array.from({ length: count }, (_, index) => ((index + 1) % interval === 0 ? 'full_attention' : 'linear_attention'))
  const delta = readDeltaShape(config)
  const kernel = config.integer('linear_conv_kernel_dim', 4)
  const rotary = readRotary(config, readHeadSize(config), { share: 0.25 })
  return readLlamaLike(config, layout, {
    ...readBiases(config),
    ...traits,
    normOffset: 1,
    queryKeyNorm: 'head',
    gatedQueries: true,
    rotary: () => rotary,
    scales: { delta },
    perBlock: { layer_types: types },
    mixer: (index, name) =>
      types[index] === 'linear_attention' ? deltaTensors(`${name}.linear_attn`, config.integer('hidden_size'), delta, kernel) : undefined,
  })
}

function readDeltaShape(config: ConfigReader): DeltaShape {
  const shape = {
    keyHeads: config.integer('linear_num_key_heads', 16),
    valueHeads: config.integer('linear_num_value_heads', 32),
    keySize: config.integer('linear_key_head_dim', 128),
    valueSize: config.integer('linear_value_head_dim', 128),
  }
  if (shape.valueHeads % shape.keyHeads === 0) return shape
  throw new EspalierError(
    'invalid',
    `config.json: linear_num_value_heads ${shape.valueHeads} must be a multiple of linear_num_key_heads ${shape.keyHeads}.`,
  )
}

function deltaTensors(name: string, hidden: number, { keyHeads, valueHeads, keySize, valueSize }: DeltaShape, kernel: number): Mixer {
  const [keys, values] = [keyHeads * keySize, valueHeads * valueSize]
  const rows = (firstRow: number, count: number) => ({ weight: `${name}.in_proj_qkv.weight`, firstRow, rows: count, columns: hidden })
  return {
    query: rows(0, keys),
    key: rows(keys, keys),
    value: rows(2 * keys, values),
    delta: {
      gate: linear(`${name}.in_proj_z`, values, hidden),
      strength: linear(`${name}.in_proj_b`, valueHeads, hidden),
      rate: linear(`${name}.in_proj_a`, valueHeads, hidden),
      convolution: { weight: `${name}.conv1d.weight`, shape: [2 * keys + values, 1, kernel] },
      decay: { weight: `${name}.A_log`, shape: [valueHeads] },
      rateBias: { weight: `${name}.dt_bias`, shape: [valueHeads] },
      readNorm: { weight: `${name}.norm.weight`, shape: [valueSize] },
    },
    output: linear(`${name}.out_proj`, hidden, values),
  }
}

export const qwen35Text: Architecture = {
  modelType: 'qwen3_5_text',
  title: 'Qwen3.5',
  examples: 'text models made from Qwen3.5',
  gguf: { own: qwen35Dialect },
  read: (config, layout) => readQwen35(config, layout),
}

const describeText = (config: Record<string, unknown>) =>
  textConfigOf(config, { architectures: ['Qwen3_5ForCausalLM'], model_type: 'qwen3_5_text', head_dim: 256 })

/** The text part of Qwen3.5 models that also read images. */
export const qwen35: Architecture = {
  modelType: 'qwen3_5',
  title: 'Qwen3.5 with images, its text part',
  examples: 'Qwen3.5 0.8B to 27B',
  gguf: { own: qwen35Dialect },
  textConfig: describeText,
  read: (config, layout, stored) => readQwen35(config.textPart(describeText), layout, { place: findPlace(stored) }),
}
