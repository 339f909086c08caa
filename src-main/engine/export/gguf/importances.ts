import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { columnCount } from '#engine/checkpoint/checkpoint.ts'
import type { TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import type { NamedTensor, NamedTensors, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { GgufTarget } from './target.ts'

/**
 * Mean squares of the inputs of a block's projections, by column: of the inputs of attention and MLP, and of the inputs of their last
 * projection.
 */
export interface BlockImportances {
  readonly attention?: PartImportances
  readonly mlp?: PartImportances
  /** For a mixture: the importances of each remaining expert, measured over the tokens that choose it. */
  readonly experts?: readonly PartImportances[]
}

export interface PartImportances {
  readonly input: Float32Array
  /** Absent for a mixture's shared expert, whose down projection is not measured. */
  readonly inner?: Float32Array
}

/** How much an error in each column of each matrix counts, as in llama.cpp's imatrix. */
export interface Importances {
  /** One entry per block of the dense model. */
  readonly blocks: readonly BlockImportances[]
  /** The texts that they were measured on. */
  readonly texts: readonly string[]
  readonly tokens: number
}

const sides = ['input', 'inner'] as const

/**
 * The weight of columns whose inputs were all zero, as a share of the mean weight. If all weights of a block were 0, it would have no best
 * scale.
 */
const leastShare = 1e-6

/** The importances of the columns of each matrix in the blocks, by tensor name. Columns that were not measured get equal importances. */
export function importancesByName(
  tensors: readonly TensorToWrite[],
  { blocks }: GgufTarget,
  importances: Importances,
): Map<string, Float32Array> {
  const found = new Map<string, Float32Array>()
  for (const { name, shape } of tensors) {
    const [, position, part = '', projection = ''] = /^blk\.(\d+)\.(attn|ffn)_(\w+)\.weight$/.exec(name) ?? []
    const packed = blocks[Number(position)]
    if (!packed || shape.length < 2) continue
    const source = part === 'attn' ? packed.attention : packed.mlp
    const measured = source === undefined ? undefined : importances.blocks[source]
    const side = /^(output|down(_exps|_shexp)?)$/.test(projection) ? 'inner' : 'input'
    const width = columnCount(shape)
    if (shape.length === 2) found.set(name, fill(measured?.[part === 'attn' ? 'attention' : 'mlp']?.[side], width))
    else
      found.set(
        name,
        fillAll(at(shape, 0), (expert) => fill(measured?.experts?.[expert]?.[side], width)),
      )
  }
  return found
}

/** Concatenates the importances of all experts. */
function fillAll(experts: number, of: (expert: number) => Float32Array): Float32Array {
  const all = Array.from({ length: experts }, (_, expert) => of(expert))
  return Float32Array.from(all.flatMap((own) => [...own]))
}

/** Extends measured importances to all columns of a matrix. The added columns belong to zero neurons. */
function fill(measured: Float32Array | undefined, width: number): Float32Array {
  const own = measured ?? new Float32Array()
  const mean = meanOf(own)
  const least = mean > 0 ? leastShare * mean : 1
  return Float32Array.from({ length: width }, (_, column) => Math.max(own[column] ?? 0, least))
}

/** Converts the importances to named tensors, to store them. */
export function toTensors({ blocks }: Importances): NamedTensors {
  const found = new Map<string, NamedTensor>()
  const add = (name: string, part: PartImportances | undefined) => {
    for (const side of sides) {
      const values = part?.[side]
      if (values?.length) found.set(`${name} ${side}`, { values, shape: [values.length] })
    }
  }
  for (const [block, { attention, mlp, experts = [] }] of blocks.entries()) {
    add(`${block} attention`, attention)
    add(`${block} mlp`, mlp)
    for (const [expert, own] of experts.entries()) add(`${block} ${expert}`, own)
  }
  return found
}

/** Reads the importances of `count` blocks from the tensors that `toTensors` made. An expert without a tensor was never chosen. */
export function fromTensors(tensors: StoredTensors, count: number): BlockImportances[] {
  const part = (name: string): PartImportances | undefined => {
    const has = (side: string) => tensors.tensors.has(`${name} ${side}`)
    if (!has('input')) return undefined
    return { input: tensors.vector(`${name} input`), ...(has('inner') ? { inner: tensors.vector(`${name} inner`) } : {}) }
  }
  const numbers = Array<number>(count).fill(0)
  for (const name of tensors.tensors.keys()) {
    const [, block, expert] = /^(\d+) (\d+) /.exec(name) ?? []
    if (expert !== undefined) numbers[Number(block)] = Math.max(at(numbers, Number(block)), Number(expert) + 1)
  }
  return Array.from({ length: count }, (_, block) => {
    const [attention, mlp] = [part(`${block} attention`), part(`${block} mlp`)]
    const experts = Array.from({ length: at(numbers, block) }, (_, expert) => {
      return part(`${block} ${expert}`) ?? { input: new Float32Array() }
    })
    return { ...(attention ? { attention } : {}), ...(mlp ? { mlp } : {}), ...(experts.length > 0 ? { experts } : {}) }
  })
}
