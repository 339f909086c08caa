import type { Tensor, Tensor1D } from '@tensorflow/tfjs-core'
import type { CachedBlock, DecodedParts } from '#engine/backend/fused.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { isHalf, type Matrix } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import type { AttentionWeights, MlpWeights } from '../weights/weights.ts'

/** What a part says besides its weights. */
interface StepOf {
  /** Rows of the call that run it. */
  readonly rows: readonly number[]
  readonly hidden: number
  /** What is added to the stream is multiplied by this. */
  readonly scale: number
  /** Whether a parallel MLP behind it reads the block's input. */
  readonly keepsSource: boolean
}

export interface MlpStep extends StepOf {
  /** By row what its neurons are multiplied by, [I]: 0 for those that its plan removed. Undefined for a row that has all. */
  readonly masks?: readonly (Tensor1D | undefined)[]
}

export interface AttentionStep extends StepOf {
  readonly window: number
  readonly tables: RotaryTables
  /** Keys and values that each row is in. */
  readonly caches: readonly CachedBlock[]
}

const none = -1

/** Parts of the decoder as `decode-kernels.h` reads them, part after part, each tensor named once. */
export class DecodeParts implements DecodedParts {
  readonly steps: number[] = []
  readonly numbers: number[] = []
  readonly lists: number[] = []
  readonly tensors: Tensor[] = []
  readonly halves: Tensor[] = []
  readonly #places = new Map<Tensor, number>()

  addAttention(weights: AttentionWeights<Matrix>, { rows, hidden, window, tables, caches, scale, keepsSource }: AttentionStep): void {
    const { queryNorm, keyNorm } = weights
    const heads = [kindOf(queryNorm), this.#place(queryNorm?.weight), this.#place(keyNorm?.weight)]
    const first = this.#rows(rows)
    this.lists.push(...caches.map(({ key, value }) => this.#pair(key, value)))
    const head = [1, Number(keepsSource), first, rows.length, rowsOf(weights.queryKeyValue), window, this.#pair(tables.cosine, tables.sine)]
    const projections = [this.#matrix(weights.queryKeyValue), this.#place(weights.queryKeyValueBias), none, none]
    const output = [this.#matrix(weights.output), this.#place(weights.outputBias)]
    this.steps.push(...head, ...this.#norms(weights), ...heads, ...projections, ...output)
    this.numbers.push(...numbersOf(weights, hidden), queryNorm?.epsilon ?? 0, scale)
  }

  addMlp(weights: MlpWeights<Matrix>, { rows, hidden, scale, keepsSource, masks = [] }: MlpStep): void {
    const { gate, up, down } = weights
    const first = this.#rows(rows)
    this.lists.push(...rows.map((_, index) => this.#place(masks[index])))
    const head = [0, Number(keepsSource), first, rows.length, rowsOf(up), 0, none]
    const gates = [gate ? this.#matrix(gate) : none, this.#place(weights.gateBias)]
    const projections = [this.#matrix(up), this.#place(weights.upBias), ...gates, this.#matrix(down), this.#place(weights.downBias)]
    this.steps.push(...head, ...this.#norms(weights), 0, none, none, ...projections)
    this.numbers.push(...numbersOf(weights, hidden), 0, scale)
  }

  #norms({ norm, outputNorm }: AttentionWeights<Matrix> | MlpWeights<Matrix>): number[] {
    return [norm, outputNorm].flatMap((one) => [kindOf(one), this.#place(one?.weight), this.#place(one?.bias)])
  }

  #rows(rows: readonly number[]): number {
    return this.lists.push(...rows) - rows.length
  }

  #matrix(weight: Matrix): number {
    if (!isHalf(weight)) return this.#place(weight)
    return -1 - this.halves.push(weight.values)
  }

  #place(tensor: Tensor | undefined): number {
    if (!tensor) return none
    const known = this.#places.get(tensor)
    if (known !== undefined) return known
    const place = this.tensors.push(tensor) - 1
    this.#places.set(tensor, place)
    return place
  }

  /** The place of the first of two tensors that stand side by side. */
  #pair(first: Tensor, second: Tensor): number {
    const known = this.#places.get(first)
    if (known !== undefined) return known
    const place = this.#place(first)
    this.tensors.push(second)
    return place
  }
}

const rowsOf = (weight: Matrix): number => (isHalf(weight) ? weight.rows : weight.shape[0])

const kindOf = (norm: NormWeights | undefined): number => (norm ? (norm.kind === 'layer' ? 2 : 1) : 0)

function numbersOf({ norm, outputNorm }: AttentionWeights<Matrix> | MlpWeights<Matrix>, hidden: number): number[] {
  return [norm, outputNorm].flatMap((one) => [one?.epsilon ?? 0, one?.divisor ?? hidden])
}
