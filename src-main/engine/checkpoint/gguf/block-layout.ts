import { at } from '#contract/at.ts'
import type { Dialect } from '#engine/architectures/dialect.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'
import type { Metadata } from './metadata.ts'

/** The sizes of a GGUF file's blocks, and their original sizes. */
export interface GgufLayout {
  /** Number of blocks, without those after the last that only predict further tokens. */
  readonly count: number
  readonly heads: number
  readonly keyValueHeads: number
  readonly intermediate: number
  /** Width of each expert; undefined if there are no mixtures. */
  readonly expertWidth: number | undefined
  /** Undefined if all blocks are whole and equal. */
  readonly blocks: readonly BlockLayout[] | undefined
  /** Neurons of each block's MLP or of each of its experts, and how many its tensors hold, including added zeros. */
  readonly widths: readonly number[]
  readonly storedWidths: readonly number[]
}

/** Architectures whose blocks may have different sizes. */
const blockwise = ['deci', 'openelm']

/**
 * Reads sizes that may be stated block by block. A block without heads lost its attention, one without neurons its MLP, and so did those
 * whose place Espalier filled with zeros. Throws an Error if blocks have attention of different sizes or more neurons than are stored.
 */
export function readLayout(metadata: Metadata, dialect: Dialect): GgufLayout {
  const count = metadata.number('block_count') - (metadata.optionalNumber('nextn_predict_layers') ?? 0)
  if (!Number.isInteger(count) || count < 1 || count > 1000) throw new Error(`it has ${count} blocks, 1 to 1000 are read`)
  const sizes = (key: string) =>
    blockwise.includes(metadata.architecture) ? metadata.numbers(key, count) : Array.from({ length: count }, () => metadata.number(key))
  const queries = sizes('attention.head_count')
  const keys = metadata.has('attention.head_count_kv') ? sizes('attention.head_count_kv') : queries
  const experts = readExperts(metadata, dialect)
  const dense = experts ? experts.dense : count
  const lengths =
    experts && !metadata.has('feed_forward_length') ? Array.from({ length: count }, () => experts.width) : sizes('feed_forward_length')
  const storedWidths = lengths.map((width, index) => (experts && index >= dense ? experts.width : width))
  const widths = readNeurons(metadata, storedWidths)
  const zeroed = metadata.zeroedAttention()
  const blocks = widths.map((width, index): BlockLayout => {
    const mixture = experts && index >= dense ? { experts: experts.count } : {}
    return { attention: at(queries, index) > 0 && !zeroed.has(index), width, ...mixture }
  })
  const [heads, keyValueHeads] = [Math.max(...queries), Math.max(...keys)]
  blocks.forEach(({ attention }, index) => {
    if (attention && (queries[index] !== heads || keys[index] !== keyValueHeads))
      throw new Error(
        `block ${index} has ${queries[index]}/${keys[index]} heads and others ${heads}/${keyValueHeads}; all that are there must have the same`,
      )
  })
  const widest = (some: readonly number[]) => Math.max(1, ...some)
  const intermediate = widest(dense > 0 ? widths.slice(0, dense) : widths)
  const expertWidth = experts && widest(widths.slice(dense))
  const usual = (index: number) => (index < dense ? intermediate : expertWidth)
  const whole = blocks.every(({ attention, width }, index) => attention && width === usual(index))
  return { count, heads, keyValueHeads, intermediate, expertWidth, blocks: whole ? undefined : blocks, widths, storedWidths }
}

/** The number and width of experts, and how many dense blocks come before the first mixture; undefined if there are no mixtures. */
function readExperts(metadata: Metadata, { expertWidth }: Dialect) {
  const count = metadata.optionalNumber('expert_count') ?? 0
  if (expertWidth === undefined || count === 0) return undefined
  if (!Number.isInteger(count) || count < 0 || count > 1024) throw new Error(`it has ${count} experts, at most 1024 are read`)
  return { count, width: metadata.number(expertWidth), dense: metadata.optionalNumber('leading_dense_block_count') ?? 0 }
}

/** Neurons of each block's MLP, without the zeros that Espalier added. */
function readNeurons(metadata: Metadata, stored: readonly number[]): readonly number[] {
  const neurons = metadata.neurons(stored.length) ?? stored
  neurons.forEach((width, index) => {
    if (width > at(stored, index)) throw new Error(`block ${index} should have ${width} neurons, ${stored[index]} are stored`)
  })
  return neurons
}
