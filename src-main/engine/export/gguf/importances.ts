import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { meanOf } from '#contract/comparison/statistics.ts'
import type { DataRequest } from '#contract/data/data-request.ts'
import { columnCount } from '#engine/checkpoint/checkpoint.ts'
import type { TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import type { NamedTensor, NamedTensors, StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import type { Windows } from '#engine/data/windows.ts'
import { runWindows } from '#engine/model/forward.ts'
import { productsOfFewDigits } from '#engine/model/precision.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { blockOf, isAttention } from '#engine/model/weights/weights.ts'
import { columnSums } from '#engine/tensor/sums.ts'
import type { GgufTarget } from './target.ts'

/**
 * Mean squares of the inputs of a block's projections, by column: of the inputs of attention and MLP, and of the inputs of their last
 * projection.
 */
interface BlockImportances {
  readonly attention?: PartImportances
  readonly mlp?: PartImportances
  /** For a mixture: the importances of each remaining expert, measured over the tokens that choose it. */
  readonly experts?: readonly PartImportances[]
}

interface PartImportances {
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
  /** Set if each window of the texts began with the begin token. */
  readonly begins?: boolean
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

interface Report {
  readonly signal?: AbortSignal
  progress?(done: number, total: number): void
}

/** Measures the mean square of every input column of the pruned model's projections over the windows, as llama-imatrix does. */
export async function measureImportances(
  view: ModelView,
  windows: Windows,
  texts: readonly string[],
  report: Report = {},
): Promise<Importances> {
  const tokens = windows.reduce((sum, { length }) => sum + length, 0)
  const blocks: Sites[] = view.spec.blocks.map(() => ({}))
  await runWindows(view, windows, {
    ...report,
    endsBeforeOutput: true,
    products: productsOfFewDigits(view.model.products),
    observe({ batch, tokens: length }, part, seen) {
      const block = at(blocks, blockOf(part))
      const shape = { batch, tokens: length }
      if (isAttention(part)) block.attention = addSite(block.attention, seen.input, seen.inner, shape)
      else if (!seen.more) block.mlp = addSite(block.mlp, seen.input, seen.experts ? undefined : seen.inner, shape)
      for (const { expert, rows, input, inner } of seen.experts ?? []) {
        block.experts ??= []
        if (input) block.experts[expert] = addSite(block.experts[expert], input, inner, { batch: 1, tokens: rows.length })
      }
    },
  })
  const found = blocks.map(
    ({ attention, mlp, experts }): BlockImportances => ({
      ...(attention ? { attention: meansOf(attention) } : {}),
      ...(mlp ? { mlp: meansOf(mlp) } : {}),
      ...(experts ? { experts: Array.from(experts, (site) => (site ? meansOf(site) : { input: new Float32Array() })) } : {}),
    }),
  )
  return { blocks: found, texts, tokens }
}

interface Site {
  readonly input: Float64Array
  readonly inner: Float64Array | undefined
  tokens: number
}

interface Sites {
  attention?: Site
  mlp?: Site
  /** By the expert's number. An expert that was never chosen has no entry. */
  experts?: (Site | undefined)[]
}

function addSite(
  site: Site | undefined,
  input: Tensor2D,
  inner: Tensor2D | undefined,
  { batch, tokens }: { batch: number; tokens: number },
): Site {
  const own = site ?? { input: new Float64Array(input.shape[1]), inner: inner && new Float64Array(inner.shape[1]), tokens: 0 }
  addRows(own.input, columnSums(input, batch, tokens, 'squares'))
  if (inner && own.inner) addRows(own.inner, columnSums(inner, batch, tokens, 'squares'))
  own.tokens += batch * tokens
  return own
}

function meansOf({ input, inner, tokens }: Site): PartImportances {
  const mean = (sums: Float64Array) => Float32Array.from(sums, (sum) => sum / tokens)
  return { input: mean(input), ...(inner ? { inner: mean(inner) } : {}) }
}

function addRows(sums: Float64Array, rows: ArrayLike<number>): void {
  for (let i = 0; i < rows.length; i++) sums[i % sums.length] = (sums[i % sums.length] as number) + (rows[i] as number)
}

/** The phase of a run that measures importances. */
export const weighingPhase = 'weighing columns'

/** The maximum number of tokens that importances are measured on. More tokens hardly change the mean squares. */
const mostTokens = 65_536
const usualText: DataRequest = { source: 'mixed', sequenceLength: 512 }

/** The text that the importances for a quantised file are measured on: the calibration text, or else the bundled one. */
export function weighingText(calibration: DataRequest = usualText, contextLength: number): DataRequest {
  const sequenceLength = Math.min(calibration.sequenceLength, contextLength)
  const most = Math.max(1, Math.floor(mostTokens / sequenceLength))
  return { ...calibration, sequenceLength, windows: Math.min(calibration.windows ?? most, most) }
}
