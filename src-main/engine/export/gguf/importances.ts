import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import { columnCount } from '#engine/checkpoint/checkpoint.ts'
import type { TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import type { NamedTensor, NamedTensors, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { GgufTarget } from './target.ts'

/** Mean squares of the inputs of a block's projections, by column: into attention and MLP, and into their last projection. */
export interface BlockImportances {
  readonly attention?: PartImportances
  readonly mlp?: PartImportances
  /** For a mixture: the importances of each remaining expert, over its own tokens. */
  readonly experts?: readonly PartImportances[]
}

export interface PartImportances {
  readonly input: Float32Array
  /** Absent if a mixture's shared expert is not measured. */
  readonly inner?: Float32Array
}

/** How much an error in each column of each matrix counts, in the sense of llama.cpp's imatrix. */
export interface Importances {
  /** By block of the model before pruning. */
  readonly blocks: readonly BlockImportances[]
  /** The texts they were measured on, and how many tokens. */
  readonly texts: readonly string[]
  readonly tokens: number
}

const sides = ['input', 'inner'] as const

/** Columns that saw only zeros count this share of the mean. With a weight of 0 everywhere, a block would have no best scale. */
const leastShare = 1e-6

/** The importances of the columns of each matrix in the blocks, by tensor name; all equal if nothing was measured. */
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

/** Extends measured importances to the columns of a matrix. The added ones are for neurons of zeros. */
function fill(measured: Float32Array | undefined, width: number): Float32Array {
  const own = measured ?? new Float32Array()
  const mean = meanOf(own)
  const least = mean > 0 ? leastShare * mean : 1
  return Float32Array.from({ length: width }, (_, column) => Math.max(own[column] ?? 0, least))
}

/** The measured columns as named tensors, to store them. */
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

/** The columns of `count` blocks, from the tensors that `toTensors` made. An expert without any was never chosen. */
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
