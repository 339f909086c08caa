import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs-core'
import { normKinds, type StepNumbers, type StepWords, stepNumbers, stepWords } from '#engine/backend/decode-words.ts'
import type { CachedBlock, DecodedParts } from '#engine/backend/fused.ts'
import { isSettled, narrowed } from '#engine/tensor/narrow.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { isHalf, type Matrix } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import type { AttentionWeights, MlpWeights } from '../weights/weights.ts'

/** The settings of a part, besides its weights. */
interface StepOf {
  /** The rows of the call that run this part. */
  readonly rows: readonly number[]
  readonly hidden: number
  /** The factor on the output that is added to the stream. */
  readonly scale: number
  /** Whether a parallel MLP follows, which still reads the block's input. */
  readonly keepsSource: boolean
}

interface MlpStep extends StepOf {
  /** For each row, the factors on the neurons, [I]: 0 for neurons that the row's plan removed. Undefined for a row that keeps all. */
  readonly masks?: readonly (Tensor1D | undefined)[]
}

interface AttentionStep extends StepOf {
  readonly block: number
  readonly window: number
  readonly tables: RotaryTables
  /** The keys and values of each row. */
  readonly caches: readonly CachedBlock[]
}

const none = -1

/**
 * Parts of the decoder in the form that `native/kernels/decode-kernel.h` reads, one after another. Each tensor is listed once and referred
 * to by index.
 */
export class DecodeParts implements DecodedParts {
  readonly #steps: number[] = []
  readonly #numbers: number[] = []
  readonly #lists: number[] = []
  #typed: Pick<DecodedParts, 'steps' | 'numbers' | 'lists'> | undefined
  readonly tensors: Tensor[] = []
  readonly halves: Tensor[] = []
  readonly #places = new Map<Tensor, number>()
  /** By the index of rotary tables in `tensors`, a block that uses them. */
  readonly #tables = new Map<number, number>()
  #settled = true

  get steps(): Int32Array {
    return this.#typedLists().steps
  }

  get numbers(): Float32Array {
    return this.#typedLists().numbers
  }

  get lists(): Int32Array {
    return this.#typedLists().lists
  }

  /**
   * Whether all weights are in their final form, with smaller copies where these will exist, so that the next token can use these parts
   * too.
   */
  get isSettled(): boolean {
    return this.#settled
  }

  /** Replaces the rotary tables by those of another call. */
  useTables(of: (block: number) => RotaryTables): void {
    for (const [place, block] of this.#tables) {
      const { cosine, sine } = of(block)
      this.tensors.splice(place, 2, cosine, sine)
    }
  }

  addAttention(weights: AttentionWeights<Matrix>, step: AttentionStep): void {
    const { rows, hidden, block, window, tables, caches, scale, keepsSource } = step
    const { queryNorm, keyNorm } = weights
    const firstRow = this.#rows(rows)
    const placed = this.#pair(tables.cosine, tables.sine)
    this.#tables.set(placed, block)
    this.#lists.push(...caches.map(({ key, value }) => this.#pair(key, value)))
    const words: StepWords = {
      attends: 1,
      keepsSource: Number(keepsSource),
      firstRow,
      rows: rows.length,
      inner: rowsOf(weights.queryKeyValue),
      window,
      tables: placed,
      ...this.#norms(weights),
      headKind: kindOf(queryNorm),
      queryWeight: this.#place(queryNorm?.weight),
      keyWeight: this.#place(keyNorm?.weight),
      first: this.#matrix(weights.queryKeyValue),
      firstBias: this.#place(weights.queryKeyValueBias),
      gate: none,
      gateBias: none,
      second: this.#matrix(weights.output),
      secondBias: this.#place(weights.outputBias),
    }
    this.#push(words, { ...normNumbers(weights, hidden), headEpsilon: queryNorm?.epsilon ?? 0, scale })
  }

  addMlp(weights: MlpWeights<Matrix>, { rows, hidden, scale, keepsSource, masks = [] }: MlpStep): void {
    const { gate, up, down } = weights
    const firstRow = this.#rows(rows)
    this.#lists.push(...rows.map((_, index) => this.#place(masks[index])))
    const words: StepWords = {
      attends: 0,
      keepsSource: Number(keepsSource),
      firstRow,
      rows: rows.length,
      inner: rowsOf(up),
      window: 0,
      tables: none,
      ...this.#norms(weights),
      headKind: normKinds.none,
      queryWeight: none,
      keyWeight: none,
      first: this.#matrix(up),
      firstBias: this.#place(weights.upBias),
      gate: gate ? this.#matrix(gate) : none,
      gateBias: this.#place(weights.gateBias),
      second: this.#matrix(down),
      secondBias: this.#place(weights.downBias),
    }
    this.#push(words, { ...normNumbers(weights, hidden), headEpsilon: 0, scale })
  }

  #push(words: StepWords, numbers: StepNumbers): void {
    this.#steps.push(...stepWords.map((name) => words[name]))
    this.#numbers.push(...stepNumbers.map((name) => numbers[name]))
    this.#typed = undefined
  }

  #typedLists() {
    this.#typed ??= {
      steps: Int32Array.from(this.#steps),
      numbers: Float32Array.from(this.#numbers),
      lists: Int32Array.from(this.#lists),
    }
    return this.#typed
  }

  #norms({ norm, outputNorm }: AttentionWeights<Matrix> | MlpWeights<Matrix>) {
    return {
      beforeKind: kindOf(norm),
      beforeWeight: this.#place(norm?.weight),
      beforeBias: this.#place(norm?.bias),
      afterKind: kindOf(outputNorm),
      afterWeight: this.#place(outputNorm?.weight),
      afterBias: this.#place(outputNorm?.bias),
    }
  }

  #rows(rows: readonly number[]): number {
    return this.#lists.push(...rows) - rows.length
  }

  #matrix(weight: Matrix): number {
    const narrow = isHalf(weight) ? weight.values : narrowed(weight)
    this.#settled &&= isHalf(weight) || isSettled(weight)
    return narrow ? -1 - this.halves.push(narrow) : this.#place(weight as Tensor2D)
  }

  #place(tensor: Tensor | undefined): number {
    if (!tensor) return none
    const known = this.#places.get(tensor)
    if (known !== undefined) return known
    const place = this.tensors.push(tensor) - 1
    this.#places.set(tensor, place)
    return place
  }

  /** Lists two tensors next to each other, and returns the index of the first. */
  #pair(first: Tensor, second: Tensor): number {
    const known = this.#places.get(first)
    if (known !== undefined) return known
    const place = this.#place(first)
    this.tensors.push(second)
    return place
  }
}

const rowsOf = (weight: Matrix): number => (isHalf(weight) ? weight.rows : weight.shape[0])

const kindOf = (norm: NormWeights | undefined): number => normKinds[norm?.kind ?? 'none']

function normNumbers({ norm, outputNorm }: AttentionWeights<Matrix> | MlpWeights<Matrix>, hidden: number) {
  return {
    beforeEpsilon: norm?.epsilon ?? 0,
    beforeDivisor: norm?.divisor ?? hidden,
    afterEpsilon: outputNorm?.epsilon ?? 0,
    afterDivisor: outputNorm?.divisor ?? hidden,
  }
}
