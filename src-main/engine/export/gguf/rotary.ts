import { EspalierError } from '#contract/errors.ts'
import type { Dialect } from '#engine/architectures/dialect.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { blockTypeNamed } from '#engine/checkpoint/gguf/blocks.ts'
import type { GgufTensorToWrite, MetadataEntries } from '#engine/checkpoint/gguf/write-gguf.ts'
import type { Rotary } from '#engine/tensor/rotary.ts'

type Section = Readonly<Record<string, unknown>>

/** The rotary embedding of a config, in its older or newer form. */
interface RotarySection {
  readonly kind: string
  readonly theta: number | undefined
  readonly section: Section
  /** The context length that the model was trained for before its frequencies were scaled. */
  readonly originalLength: number | undefined
}

/**
 * Reads the rotary section of a config (`rope_scaling` with `rope_theta`, or `rope_parameters`). If kinds of blocks have different
 * sections, reads that of full attention.
 */
export function rotarySection(whole: Section): RotarySection {
  const config = isSection(whole.text_config) ? whole.text_config : whole
  const given = [config.rope_scaling, config.rope_parameters].find((value): value is Section => isSection(value)) ?? {}
  const section = isSection(given.full_attention) ? given.full_attention : given
  const kind = text(section.rope_type) ?? text(section.type) ?? 'default'
  return {
    kind: kind === 'su' ? 'longrope' : kind,
    theta: number(config.rope_theta) ?? number(section.rope_theta),
    section,
    originalLength: number(section.original_max_position_embeddings) ?? number(config.original_max_position_embeddings),
  }
}

/** Why an architecture cannot rotate queries and keys as the model does; undefined if it can. */
function rotaryProblem(config: Section, { architecture, takesFactors }: Dialect): string | undefined {
  const { kind } = rotarySection(config)
  if (kind === 'default' || kind === 'linear' || kind === 'yarn') return undefined
  if (kind !== 'llama3' && kind !== 'longrope') return `llama.cpp has no rotary scaling of the kind ${kind}`
  return takesFactors
    ? undefined
    : `llama.cpp's architecture ${architecture} takes no factors per frequency, which the rotary scaling ${kind} needs`
}

/**
 * Writes the metadata for the rotary embedding, and returns its tensors. Throws if the architecture does not support the model's scaling.
 */
export function writeRotary(spec: DecoderSpec, config: Section, dialect: Dialect, metadata: MetadataEntries): GgufTensorToWrite[] {
  const problem = rotaryProblem(config, dialect)
  if (problem) throw new EspalierError('infeasible', `${problem}. Choose the format stock or exact.`)
  const { kind, section, originalLength, ...given } = rotarySection(config)
  const blocks = [...spec.blocks.keys()]
  const full = spec.rotary(blocks.find((index) => spec.slidingWindow(index) === undefined) ?? 0)
  const local = blocks.find((index) => spec.slidingWindow(index) !== undefined)
  const theta = given.theta ?? baseOf(full)
  const key = (name: string) => `${dialect.architecture}.rope.${name}`
  const float = (name: string, value: number | undefined) => value !== undefined && metadata.set(key(name), { kind: 'float', value })
  metadata.set(key('dimension_count'), { kind: 'integer', value: full.size })
  float('freq_base', theta)
  const within = local === undefined ? undefined : spec.rotary(local)
  if (dialect.windows === 'list' && within) float('freq_base_swa', within === full ? theta : baseOf(within))
  if (dialect.rotarySections) metadata.set(key('dimension_sections'), { kind: 'integers', value: sectionsOf(section, full.size / 2) })
  if (kind === 'default') return []
  if (originalLength !== undefined) metadata.set(key('scaling.original_context_length'), { kind: 'integer', value: originalLength })
  if (kind === 'llama3') return [factors('rope_freqs.weight', slowing(full, theta, 1))]
  metadata.set(key('scaling.type'), { kind: 'text', value: kind })
  if (kind === 'longrope') {
    float('scaling.attn_factor', full.frequencies(1).scale)
    return [
      factors('rope_factors_long.weight', slowing(full, theta, Number.MAX_SAFE_INTEGER)),
      factors('rope_factors_short.weight', slowing(full, theta, 1)),
    ]
  }
  const factor = number(section.factor)
  float('scaling.factor', factor)
  if (typeof section.truncate === 'boolean') metadata.set('espalier.yarn.truncate', { kind: 'flag', value: section.truncate })
  if (kind === 'linear') return []
  float('scaling.yarn_beta_fast', number(section.beta_fast))
  float('scaling.yarn_beta_slow', number(section.beta_slow))
  // llama.cpp computes the default factor on scores itself, so only a different one is written.
  const [own, usual] = [number(section.attention_factor), 0.1 * Math.log(factor ?? 1) + 1]
  if (own !== undefined) float('scaling.attn_factor', own / usual)
  return []
}

/** The number of rotated pairs for each direction of an image: thirds unless the config says otherwise. For text alone, any split works. */
function sectionsOf({ mrope_section: given }: Section, pairs: number): number[] {
  const [first, second] = [Math.ceil(pairs / 3), Math.floor((pairs + 1) / 3)]
  const own = Array.isArray(given) && given.every(Number.isInteger) ? (given as number[]) : [first, second, pairs - first - second]
  return [...own, 0, 0, 0, 0].slice(0, 4)
}

/** Computes the base of unscaled frequencies. */
function baseOf(rotary: Rotary): number {
  const [, second] = rotary.frequencies(1).inverse
  return second ? second ** (-rotary.size / 2) : 10000
}

/** How many times slower each pair rotates than it would without scaling, in a call of this length. */
function slowing(rotary: Rotary, theta: number, length: number): Float32Array {
  return Float32Array.from(rotary.frequencies(length).inverse, (frequency, i) => theta ** ((-2 * i) / rotary.size) / frequency)
}

function factors(name: string, values: Float32Array): GgufTensorToWrite {
  return { name, type: blockTypeNamed('F32'), shape: [values.length], bytes: async () => new Uint8Array(values.buffer) }
}

const isSection = (value: unknown): value is Section => typeof value === 'object' && value !== null && !Array.isArray(value)
const number = (value: unknown): number | undefined => (typeof value === 'number' && Number.isFinite(value) ? value : undefined)
const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
