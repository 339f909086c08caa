import { at } from '#contract/at.ts'
import type { StoredBlock } from '../checkpoint.ts'
import type { Metadata } from './metadata.ts'

/** The sizes of a GGUF file's blocks, and what they are where nothing was removed. */
export interface GgufLayout {
  readonly heads: number
  readonly keyValueHeads: number
  readonly intermediate: number
  /** Undefined if all blocks are whole and equal. */
  readonly blocks: readonly StoredBlock[] | undefined
  /** Neurons of each block's MLP, and those that its tensors hold, with zeros that were added. */
  readonly widths: readonly number[]
  readonly storedWidths: readonly number[]
}

/** Architectures whose blocks may have sizes of their own. */
const blockwise = ['deci', 'openelm']

/**
 * Reads sizes that may be stated block by block. A block without heads lost its attention, one without neurons its MLP, and so did those
 * in whose place this program wrote zeros. Throws an Error where blocks have attention of different sizes or more neurons than are stored.
 */
export function readLayout(metadata: Metadata): GgufLayout {
  const count = metadata.number('block_count')
  if (!Number.isInteger(count) || count < 1 || count > 1000) throw new Error(`it has ${count} blocks, 1 to 1000 are read`)
  const sizes = (key: string) =>
    blockwise.includes(metadata.architecture) ? metadata.numbers(key, count) : Array.from({ length: count }, () => metadata.number(key))
  const queries = sizes('attention.head_count')
  const keys = metadata.has('attention.head_count_kv') ? sizes('attention.head_count_kv') : queries
  const storedWidths = sizes('feed_forward_length')
  const widths = readNeurons(metadata, storedWidths)
  const zeroed = metadata.zeroedAttention()
  const blocks = widths.map((width, index) => ({ attention: at(queries, index) > 0 && !zeroed.has(index), width }))
  const [heads, keyValueHeads] = [Math.max(...queries), Math.max(...keys)]
  blocks.forEach(({ attention }, index) => {
    if (attention && (queries[index] !== heads || keys[index] !== keyValueHeads))
      throw new Error(
        `block ${index} has ${queries[index]}/${keys[index]} heads and others ${heads}/${keyValueHeads}; all that are there must have the same`,
      )
  })
  const intermediate = Math.max(1, ...widths)
  const whole = blocks.every(({ attention, width }) => attention && width === intermediate)
  return { heads, keyValueHeads, intermediate, blocks: whole ? undefined : blocks, widths, storedWidths }
}

/** Neurons of each block's MLP, without the zeros that this program added. */
function readNeurons(metadata: Metadata, stored: readonly number[]): readonly number[] {
  const neurons = metadata.neurons(stored.length) ?? stored
  neurons.forEach((width, index) => {
    if (width > at(stored, index)) throw new Error(`block ${index} should have ${width} neurons, ${stored[index]} are stored`)
  })
  return neurons
}
