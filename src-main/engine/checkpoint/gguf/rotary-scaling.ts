import { toDecimal } from './cursor.ts'
import type { Metadata } from './metadata.ts'

/** Factors on each rotary frequency, which some files store as tensors. */
export interface RotaryFactors {
  /** Llama 3's factors. */
  frequencies?: Float32Array
  /** LongRoPE's factors for texts up to the trained length, and for longer ones. */
  short?: Float32Array
  long?: Float32Array
}

interface RotaryShape {
  readonly size: number
  readonly wholeYarn: false | undefined
}

/** Builds the part of a config that describes how rotary frequencies are scaled. Throws an Error for an unknown kind of scaling. */
export function readScaling(metadata: Metadata, factors: RotaryFactors, { size, wholeYarn }: RotaryShape): Record<string, unknown> {
  const original = metadata.optionalNumber('rope.scaling.original_context_length')
  const trained = original ? { original_max_position_embeddings: original } : {}
  if (factors.frequencies) return { rope_scaling: describeFrequencies(factors.frequencies, metadata, size) }
  const attention = metadata.optionalNumber('rope.scaling.attn_factor')
  if (factors.short && factors.long) {
    return {
      rope_scaling: {
        type: 'longrope',
        short_factor: listFactors(factors.short),
        long_factor: listFactors(factors.long),
        ...(attention === undefined ? {} : { attention_factor: attention }),
      },
      ...trained,
    }
  }
  const type = metadata.text('rope.scaling.type') ?? 'none'
  const factor = metadata.optionalNumber('rope.scaling.factor')
  if (type === 'none' || factor === undefined) return {}
  if (type !== 'linear' && type !== 'yarn')
    throw new Error(`it scales rotary embeddings by ${type}; linear, yarn and factors per frequency are supported`)
  if (type === 'linear') return { rope_scaling: { rope_type: type, factor, ...trained } }
  // llama.cpp multiplies the stored factor by YaRN's default factor, so we do the same. A float32 holds seven digits of the product.
  const scaled = attention === undefined ? {} : { attention_factor: Number((attention * (0.1 * Math.log(factor) + 1)).toPrecision(7)) }
  return { rope_scaling: { rope_type: type, factor, ...trained, ...yarnRange(metadata, wholeYarn), ...scaled } }
}

/** Where YaRN's blend of frequencies begins and ends. */
function yarnRange(metadata: Metadata, whole: false | undefined): Record<string, unknown> {
  const truncate = metadata.yarnTruncates() ?? whole
  const [fast, slow] = [metadata.optionalNumber('rope.scaling.yarn_beta_fast'), metadata.optionalNumber('rope.scaling.yarn_beta_slow')]
  return {
    ...(fast === undefined ? {} : { beta_fast: fast }),
    ...(slow === undefined ? {} : { beta_slow: slow }),
    ...(truncate === undefined ? {} : { truncate }),
  }
}

// The parameters of all published Llama 3 models. GGUF files store only the factors that result from them.
const llama3 = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }

/** Describes the factors by Llama 3's rule if it yields them, otherwise as a list in the form of LongRoPE. */
function describeFrequencies(factors: Float32Array, metadata: Metadata, rotarySize: number): Record<string, unknown> {
  const theta = metadata.optionalNumber('rope.freq_base') ?? 10000
  const factor = toDecimal(Math.max(...factors))
  const agree = factors.every((given, i) => {
    const turns = (llama3.original_max_position_embeddings * theta ** ((-2 * i) / rotarySize)) / (2 * Math.PI)
    const blend = Math.min(1, Math.max(0, (turns - llama3.low_freq_factor) / (llama3.high_freq_factor - llama3.low_freq_factor)))
    return Math.abs(1 / given - ((1 - blend) / factor + blend)) < 1e-4
  })
  if (agree) return { rope_type: 'llama3', factor, ...llama3 }
  const list = listFactors(factors)
  return {
    rope_type: 'longrope',
    short_factor: list,
    long_factor: list,
    attention_factor: 1,
    original_max_position_embeddings: metadata.number('context_length'),
  }
}

function listFactors(factors: Float32Array): number[] {
  return Array.from(factors, toDecimal)
}
