import { EspalierError } from '#contract/errors.ts'
import type { Activation } from '#engine/tensor/activation.ts'
import type { ConfigReader } from './config-reader.ts'
import type { GgufDialects } from './dialect.ts'
import type { BlockLayout, DecoderSpec, Projection } from './spec.ts'

/** One model family: its name, the GGUF names of its parts, and how its config becomes a spec. */
export interface Architecture {
  /** `model_type` of its configs. */
  readonly modelType: string
  readonly title: string
  /** Well-known models. */
  readonly examples: string
  /** Absent if Espalier neither reads nor writes GGUF files of the family. */
  readonly gguf?: GgufDialects
  /** Whether vLLM accepts vectors instead of the family's experts. */
  readonly substitutesExperts?: true
  /** Returns the config of the text model alone, if the family's models have several parts. */
  textConfig?(config: Record<string, unknown>): Record<string, unknown>
  /** Reads the spec. `stored` says whether the checkpoint has a tensor, because tensor names can differ between files of one family. */
  read(config: ConfigReader, layout: readonly BlockLayout[] | undefined, stored: (name: string) => boolean): DecoderSpec
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

/** Reads the activation from the first of `keys` that the config has. */
export function readActivation(config: ConfigReader, keys: readonly string[] = ['hidden_act'], fallback = 'silu'): Activation {
  const key = keys.find((candidate) => config.has(candidate)) ?? 'hidden_act'
  const name = config.text(key, fallback)
  const activation = Object.hasOwn(activations, name) ? activations[name] : undefined
  if (!activation)
    throw new EspalierError('invalid', `config.json has "${key}" = "${name}". Espalier supports: ${Object.keys(activations).join(', ')}.`)
  return activation
}

export function readHeadSize(config: ConfigReader): number {
  const [hidden, heads] = [config.integer('hidden_size'), config.integer('num_attention_heads')]
  const headSize = config.optionalInteger('head_dim') ?? hidden / heads
  // Tables of this size are allocated before the tensors' shapes are checked.
  if (headSize > 65_536)
    throw new EspalierError('invalid', `config.json makes heads of ${headSize} dimensions; at most 65,536 are allowed.`)
  if (Number.isInteger(headSize)) return headSize
  throw new EspalierError(
    'invalid',
    `config.json: hidden_size ${hidden} is not a multiple of num_attention_heads ${heads}, and there is no "head_dim".`,
  )
}

/** Which blocks have a mixture of experts (default: all), the number of experts, and their width. */
export interface MixtureSizes {
  readonly experts: number
  readonly width: number
  readonly mixes?: (index: number) => boolean
}

/**
 * Reads the sizes whose config keys are the same in all families, and the score scale that most families have. `mixture` describes blocks
 * with experts.
 */
export function readSizes(config: ConfigReader, layout: readonly BlockLayout[] | undefined, mixture?: MixtureSizes) {
  const hidden = config.integer('hidden_size')
  const intermediate = config.integer('intermediate_size', mixture?.width)
  const heads = config.integer('num_attention_heads')
  const keyValueHeads = config.integer('num_key_value_heads', heads)
  const headSize = readHeadSize(config)
  if (heads % keyValueHeads !== 0) {
    throw new EspalierError(
      'invalid',
      `config.json: num_attention_heads ${heads} must be a multiple of num_key_value_heads ${keyValueHeads}.`,
    )
  }
  const count = config.integer('num_hidden_layers')
  if (count > 1000) throw new EspalierError('invalid', `config.json has "num_hidden_layers" = ${count}; at most 1,000 are allowed.`)
  const blockOf = (index: number): BlockLayout => {
    if (!mixture || mixture.mixes?.(index) === false) return { attention: true, width: intermediate }
    return { attention: true, width: mixture.width, experts: mixture.experts }
  }
  const blocks = layout ?? Array.from({ length: count }, (_, index) => blockOf(index))
  return {
    blocks,
    hidden,
    intermediate,
    heads,
    keyValueHeads,
    headSize,
    scoreScale: 1 / Math.sqrt(headSize),
    vocabulary: config.integer('vocab_size'),
    contextLength: config.integer('max_position_embeddings', 2048),
  }
}

/** A projection that is a tensor of its own: `name.weight` [rows, columns], with `name.bias` if requested. */
export function linear(name: string, rows: number, columns: number, bias = false): Projection {
  return { weight: `${name}.weight`, firstRow: 0, rows, columns, ...(bias ? { bias: `${name}.bias` } : {}) }
}

/** Returns whether a block attends within a window: as "layer_types" says if the config has it, else by the family's rule. */
export function readSliding(config: ConfigReader, rule: (index: number) => boolean): (index: number) => boolean {
  const types = config.choices('layer_types', config.integer('num_hidden_layers'), ['full_attention', 'sliding_attention'])
  return types ? (index) => types[index] === 'sliding_attention' : rule
}

/** The kind of attention of each block, as the config's list "layer_types". */
export function slidingTypes(config: ConfigReader, sliding: (index: number) => boolean): { layer_types: string[] } {
  const count = config.integer('num_hidden_layers')
  return { layer_types: Array.from({ length: count }, (_, index) => (sliding(index) ? 'sliding_attention' : 'full_attention')) }
}

/** Returns the window of a block: the config's window if `sliding` is true for the block, else undefined. */
export function readWindows(config: ConfigReader, sliding: (index: number) => boolean): (index: number) => number | undefined {
  const window = config.optionalInteger('sliding_window')
  return (index) => (sliding(index) ? window : undefined)
}
