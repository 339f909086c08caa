import { EspalierError } from '#contract/errors.ts'
import type { Rotary, RotaryFrequencies } from '#engine/tensor/rotary.ts'
import type { ConfigReader } from './config-reader.ts'

/** The values that rotary scaling needs from outside its section of the config. */
interface RotaryContext {
  readonly size: number
  readonly theta: number
  readonly contextLength: number
  readonly originalContextLength: number | undefined
}

type Scaling = (section: ConfigReader, context: RotaryContext, plain: Float64Array) => (length: number) => RotaryFrequencies

/** theta^(-2i/size) for i < size/2 (RoPE, arXiv 2104.09864, Eq. 15). */
function plainFrequencies(size: number, theta: number): Float64Array {
  return Float64Array.from({ length: size / 2 }, (_, i) => theta ** (-(2 * i) / size))
}

/** Llama 3: divides the frequencies of long wavelengths by the factor, keeps those of short ones, and blends linearly between. */
const llama3: Scaling = (section, context, plain) => {
  const factor = section.number('factor')
  const low = section.number('low_freq_factor')
  const high = section.number('high_freq_factor')
  const original = section.integer('original_max_position_embeddings', context.originalContextLength)
  const inverse = plain.map((frequency) => {
    const turns = (original * frequency) / (2 * Math.PI)
    const blend = Math.min(1, Math.max(0, (turns - low) / (high - low)))
    return (frequency / factor) * (1 - blend) + frequency * blend
  })
  return () => ({ inverse, scale: 1 })
}

/**
 * YaRN (arXiv 2309.00071, section 3.2 and Eq. 22): interpolates slow dimensions, keeps fast ones, and scales the scores by its attention
 * factor.
 */
const yarn: Scaling = (section, context, plain) => {
  const factor = section.number('factor')
  const original = section.integer('original_max_position_embeddings', context.originalContextLength ?? context.contextLength)
  const scale = section.number('attention_factor', factor > 1 ? 0.1 * Math.log(factor) + 1 : 1)
  const dimensionOf = (turns: number) => (context.size * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(context.theta))
  const [fast, slow] = [dimensionOf(section.number('beta_fast', 32)), dimensionOf(section.number('beta_slow', 1))]
  const whole = section.boolean('truncate', true)
  const low = Math.max(0, whole ? Math.floor(fast) : fast)
  const high = Math.min(context.size - 1, whole ? Math.ceil(slow) : slow)
  const span = high === low ? 0.001 : high - low
  const inverse = plain.map((frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / span))
    return (frequency / factor) * ramp + frequency * (1 - ramp)
  })
  return () => ({ inverse, scale })
}

/** LongRoPE (arXiv 2402.13753): a factor per dimension, with one list of factors up to the trained length and another beyond it. */
const longrope: Scaling = (section, context, plain) => {
  const original = section.integer('original_max_position_embeddings', context.originalContextLength ?? context.contextLength)
  const ratio = context.contextLength / original
  const scale = section.number('attention_factor', ratio > 1 ? Math.sqrt(1 + Math.log(ratio) / Math.log(original)) : 1)
  const divide = (key: string) => {
    const factors = section.numbers(key, plain.length)
    return { inverse: plain.map((frequency, i) => frequency / (factors[i] ?? 1)), scale }
  }
  const short = divide('short_factor')
  const long = divide('long_factor')
  return (length) => (length > original ? long : short)
}

const linear: Scaling = (section, _context, plain) => {
  const factor = section.number('factor')
  return () => ({ inverse: plain.map((frequency) => frequency / factor), scale: 1 })
}

/** NTK-aware scaling: the base grows with the number of tokens beyond the trained length. */
const dynamic: Scaling = (section, context, plain) => {
  const factor = section.number('factor')
  return (length) => {
    if (length <= context.contextLength) return { inverse: plain, scale: 1 }
    const stretch = ((factor * length) / context.contextLength - (factor - 1)) ** (context.size / (context.size - 2))
    return { inverse: plainFrequencies(context.size, context.theta * stretch), scale: 1 }
  }
}

const scalings: Record<string, Scaling> = { llama3, yarn, longrope, su: longrope, linear, dynamic }

/** No positions: two dimensions are rotated by an angle of zero. */
export const unrotated: Rotary = { size: 2, frequencies: () => ({ inverse: new Float64Array(1), scale: 1 }) }

/** A family's keys for its rotary embedding, and its defaults. */
interface RotaryKeys {
  /** The share of each head that is rotated, unless the config says otherwise. Default: 1. */
  readonly share?: number
  readonly theta?: number
  readonly thetaKey?: string
  /** The kind of block that these parameters are for, if `rope_parameters` in newer files has an entry per kind. */
  readonly blocks?: 'full_attention' | 'sliding_attention'
  /** Whether `rope_scaling` of older files applies to these blocks. Default: true. */
  readonly scaled?: boolean
}

/** Reads the rotary embedding from a config: its size, base and scaling (`rope_scaling`, or `rope_parameters` in newer files). */
export function readRotary(config: ConfigReader, headSize: number, keys: RotaryKeys = {}): Rotary {
  const { share: usualShare = 1, theta: usualTheta = 10000, thetaKey = 'rope_theta', blocks, scaled = true } = keys
  const ofBlocks = blocks && config.section('rope_parameters')?.section(blocks)
  const section = ofBlocks ?? (scaled ? config.section('rope_scaling', 'rope_parameters') : undefined)
  const share = section?.optionalNumber('partial_rotary_factor') ?? config.number('partial_rotary_factor', usualShare)
  const size = Math.floor(headSize * share)
  if (size % 2 !== 0 || size < 2 || size > headSize) {
    throw new EspalierError(
      'invalid',
      `Rotary size ${size} (head size ${headSize} times ${share}) must be even and at most ${headSize}. Check "partial_rotary_factor" in config.json.`,
    )
  }
  const theta = section?.optionalNumber('rope_theta') ?? config.number(thetaKey, usualTheta)
  const plain = plainFrequencies(size, theta)
  const kind = section ? section.text('rope_type', section.text('type', 'default')) : 'default'
  if (!section || kind === 'default') return { size, frequencies: () => ({ inverse: plain, scale: 1 }) }
  const scaling = Object.hasOwn(scalings, kind) ? scalings[kind] : undefined
  if (!scaling) {
    throw new EspalierError(
      'invalid',
      `config.json has the rotary scaling "${kind}", which is not supported. Supported are: default, ${Object.keys(scalings).join(', ')}.`,
    )
  }
  const context = {
    size,
    theta,
    contextLength: config.integer('max_position_embeddings', 2048),
    originalContextLength: config.optionalInteger('original_max_position_embeddings'),
  }
  return { size, frequencies: scaling(section, context, plain) }
}
