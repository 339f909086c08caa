import { at } from '#contract/at.ts'
import type { Dialect } from '#engine/architectures/dialect.ts'
import type { BlockLayout } from '#engine/architectures/spec.ts'
import type { Metadata } from './metadata.ts'

/** The sizes of a GGUF file's blocks: the largest of each kind, and those of each block if they differ. */
export interface GgufLayout {
  /** Number of blocks, without extra ones at the end that only predict further tokens. */
  readonly count: number
  readonly heads: number
  readonly keyValueHeads: number
  readonly intermediate: number
  /** Width of each expert; undefined if there are no mixtures. */
  readonly expertWidth: number | undefined
  /** Undefined if no block lacks a submodule and all have equal widths. */
  readonly blocks: readonly BlockLayout[] | undefined
  /** For each block, the neurons of its MLP or of one of its experts. `storedWidths` also counts zero neurons that Espalier added. */
  readonly widths: readonly number[]
  readonly storedWidths: readonly number[]
}

/** Architectures whose blocks may have different sizes. */
const blockwise = ['deci', 'openelm']

/**
 * Reads sizes that metadata may state block by block. A block with no heads lost its attention, and a block with no neurons its MLP. So did
 * blocks where Espalier stored zeros instead. Throws an Error if blocks differ in their number of heads, or have more neurons than are
 * stored.
 */
export function readLayout(metadata: Metadata, dialect: Dialect): GgufLayout {
  const count = metadata.number('block_count') - (metadata.optionalNumber('nextn_predict_layers') ?? 0)
  if (!Number.isInteger(count) || count < 1 || count > 1000) throw new Error(`it has ${count} blocks; 1 to 1,000 are supported`)
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
        `block ${index} has ${queries[index]} heads and ${keys[index]} key/value heads, but others have ${heads} and ${keyValueHeads}; all blocks with attention must have the same`,
      )
  })
  const widest = (some: readonly number[]) => Math.max(1, ...some)
  const intermediate = widest(dense > 0 ? widths.slice(0, dense) : widths)
  const expertWidth = experts && widest(widths.slice(dense))
  const fullWidth = (index: number) => (index < dense ? intermediate : expertWidth)
  const isUniform = blocks.every(({ attention, width }, index) => attention && width === fullWidth(index))
  return { count, heads, keyValueHeads, intermediate, expertWidth, blocks: isUniform ? undefined : blocks, widths, storedWidths }
}

/** Reads the number and width of experts, and how many dense blocks precede the first mixture. Returns undefined without mixtures. */
function readExperts(metadata: Metadata, { expertWidth }: Dialect) {
  const count = metadata.optionalNumber('expert_count') ?? 0
  if (expertWidth === undefined || count === 0) return undefined
  if (!Number.isInteger(count) || count < 0 || count > 1024) throw new Error(`it has ${count} experts; at most 1,024 are supported`)
  return { count, width: metadata.number(expertWidth), dense: metadata.optionalNumber('leading_dense_block_count') ?? 0 }
}

/** Returns the neurons of each block's MLP, without the zeros that Espalier added. */
function readNeurons(metadata: Metadata, stored: readonly number[]): readonly number[] {
  const neurons = metadata.neurons(stored.length) ?? stored
  neurons.forEach((width, index) => {
    if (width > at(stored, index)) throw new Error(`block ${index} should have ${width} neurons, but ${stored[index]} are stored`)
  })
  return neurons
}
