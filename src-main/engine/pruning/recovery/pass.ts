import { add, dispose, type Tensor, type Tensor2D } from '@tensorflow/tfjs-core'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import type { FrozenHead } from '#engine/model/parts/head/training-loss.ts'
import { advance, cloneResidual, disposeResidual, normGradients, type Residual } from '#engine/model/parts/part.ts'
import {
  disposeKept,
  type KeptPart,
  type PartBackward,
  partBackward,
  partForward,
  type TrainingCall,
} from '#engine/model/parts/part-backward.ts'
import { finalNormName, trainedName } from '#engine/model/views/plan-tensors.ts'
import { pause } from '#engine/model/walk.ts'
import { blockOf, isAttention, type Part } from '#engine/model/weights/weights.ts'
import { type NormGradients, normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import type { Products } from '#engine/tensor/products.ts'
import { KeptTables } from '#engine/tensor/rotary.ts'
import type { Student } from './student.ts'

/** Windows of equal length that pass together, with the dense model's final states of them, [B*T, D]. */
export interface Batch {
  readonly ids: Int32Array
  readonly batch: number
  readonly dense: Tensor2D
}

export interface PassOptions {
  readonly products: Products
  /** Whether what the backward pass needs is kept. If not, it is computed again, part by part, from the streams. */
  readonly keeps: boolean
  readonly signal?: AbortSignal | undefined
  /** Returns the gradients that are summed instead of the gradient of a tensor, which it disposes of. Default: that gradient itself. */
  readonly gradientsOf?: ((name: string, gradient: Tensor) => [string, Tensor][]) | undefined
}

/** Takes batches forward and backward through the student. */
export class TrainingPass {
  readonly #student: Student
  readonly #vocabulary: Vocabulary
  readonly #head: FrozenHead
  readonly #options: PassOptions
  readonly #tables = new KeptTables()

  constructor(student: Student, vocabulary: Vocabulary, head: FrozenHead, options: PassOptions) {
    this.#student = student
    this.#vocabulary = vocabulary
    this.#head = head
    this.#options = options
  }

  /** Returns the divergence of the student from the dense model, summed over the rows of a batch. */
  async loss({ ids, batch, dense }: Batch): Promise<number> {
    const call = this.#callFor(ids.length / batch)
    let residual = await this.#embed(ids)
    try {
      for (const part of this.#student.parts) {
        await this.pause()
        const before = residual
        const { x, kept } = await this.#student.withPart(part, (weights) => partForward(part, weights, before, call))
        disposeKept(kept)
        residual = advance(part, residual, x, this.#student.spec)
      }
      const states = normalize(residual.x, this.#student.finalNorm)
      const { sum } = await this.#head.divergence(states, dense, { signal: this.#options.signal }).finally(() => states.dispose())
      return sum
    } finally {
      disposeResidual(residual)
    }
  }

  /**
   * Returns the same divergence, and adds the gradients of `scale` times it to `gradients`, under the names of the masters. The caller owns
   * the gradients, even if the pass ends early.
   */
  async addGradients({ ids, batch, dense }: Batch, scale: number, gradients: Map<string, Tensor>): Promise<number> {
    const { parts, spec, finalNorm } = this.#student
    const call = this.#callFor(ids.length / batch)
    const passed: PassedPart<KeptPart>[] = []
    let residual = await this.#embed(ids)
    try {
      for (const part of parts) {
        await this.pause()
        const before = residual
        const seen = await this.#student.withPart(part, (weights) => partForward(part, weights, before, call))
        passed.push({ part, ...(this.#options.keeps ? { kept: seen.kept } : { before: cloneResidual(residual) }) })
        if (!this.#options.keeps) disposeKept(seen.kept)
        residual = advance(part, residual, seen.x, spec)
      }
      const states = normalize(residual.x, finalNorm)
      const loss = await this.#head.divergence(states, dense, { scale, signal: this.#options.signal }).finally(() => states.dispose())
      const last = normalizeBackward(residual.x, finalNorm, loss.gradient as Tensor2D)
      loss.gradient?.dispose()
      this.#addFinalNorm(last, gradients)
      await this.#backward(call, passed, last.x, gradients)
      return loss.sum
    } finally {
      disposeResidual(residual)
      for (const one of passed) disposePassed(one, disposeKept)
    }
  }

  /** Goes back from the last part to the first, starting with the gradient of the stream after the last part, which it disposes of. */
  async #backward(call: TrainingCall, passed: PassedPart<KeptPart>[], last: Tensor2D, gradients: Map<string, Tensor>): Promise<void> {
    const { spec } = this.#student
    const back = async (own: PassedPart<KeptPart>, gradient: Tensor2D) => {
      await this.pause()
      const found = await this.#partBackward(own, gradient, call)
      for (const [key, value] of Object.entries(found.gradients)) this.#add(gradients, trainedName(spec, own.part, key), value)
      return found.source
    }
    const first = await passBack(spec, passed, last, back, disposeKept)
    first.dispose()
  }

  #partBackward({ part, kept, before }: PassedPart<KeptPart>, gradient: Tensor2D, call: TrainingCall): Promise<PartBackward> {
    return this.#student.withPart(part, (weights) => {
      if (kept) return partBackward(part, weights, kept, gradient, call)
      const again = partForward(part, weights, before as Residual, call)
      again.x.dispose()
      const found = partBackward(part, weights, again.kept, gradient, call)
      disposeKept(again.kept)
      return found
    })
  }

  #addFinalNorm(found: NormGradients, gradients: Map<string, Tensor>): void {
    const own = normGradients('norm', this.#student.finalNorm, found, this.#student.spec.logitScale)
    for (const [key, value] of Object.entries(own)) this.#add(gradients, finalNormName(key === 'norm' ? 'weight' : 'bias'), value)
    const used = new Set(Object.values(own))
    for (const tensor of [found.weight, found.bias]) if (!used.has(tensor)) tensor.dispose()
  }

  #add(gradients: Map<string, Tensor>, name: string, gradient: Tensor): void {
    const { gradientsOf } = this.#options
    const all = gradientsOf ? gradientsOf(name, gradient) : [[name, gradient] as const]
    for (const [own, value] of all) addTo(gradients, own, value)
  }

  async #embed(ids: Int32Array): Promise<Residual> {
    const x = await this.#vocabulary.embed(ids)
    return { x, source: x.clone() }
  }

  pause(): Promise<void> {
    return pause(this.#options.signal)
  }

  #callFor(tokens: number): TrainingCall {
    const { spec } = this.#student
    return {
      spec,
      products: this.#options.products,
      rotary: (block) => this.#tables.of(spec.rotary(block), tokens),
    }
  }

  dispose(): void {
    this.#tables.dispose()
  }
}

/**
 * Goes back from the last part to the first, starting with the gradient of the stream after the last part [N, D], which it disposes of.
 * `back` takes the gradient of the stream after a part, and the part before it, and returns what the part adds to the gradient of the stream
 * before it. Returns the gradient of the stream before the first part, which the caller disposes of.
 */
export async function passBack<Kept>(
  spec: DecoderSpec,
  passed: PassedPart<Kept>[],
  last: Tensor2D,
  back: (own: PassedPart<Kept>, gradient: Tensor2D, next: Part | undefined) => Promise<Tensor2D | undefined>,
  disposeKept: (kept: Kept) => void,
): Promise<Tensor2D> {
  let gradient = last
  /** The gradient of the block's input from a parallel MLP, until that of its attention is known. */
  let aside: Tensor2D | undefined
  try {
    for (let own = passed.pop(); own; own = passed.pop()) {
      const { part } = own
      try {
        const source = await back(own, gradient, passed.at(-1)?.part)
        if (spec.parallelResidual && !isAttention(part) && spec.blocks[blockOf(part)]?.attention) {
          aside = source
          continue
        }
        const more = isAttention(part) ? aside : undefined
        if (more) aside = undefined
        for (const one of [source, more]) {
          if (!one) continue
          const through: Tensor2D = add(gradient, one)
          dispose([gradient, one])
          gradient = through
        }
      } finally {
        disposePassed(own, disposeKept)
      }
    }
    return gradient
  } catch (thrown) {
    gradient.dispose()
    throw thrown
  } finally {
    aside?.dispose()
  }
}

/** A part that was run. It has what its backward pass needs (`kept`), or the stream before the part to compute that again. */
export interface PassedPart<Kept> {
  readonly part: Part
  readonly kept?: Kept
  readonly before?: Residual
}

export function disposePassed<Kept>({ kept, before }: PassedPart<Kept>, disposeKept: (kept: Kept) => void): void {
  if (kept) disposeKept(kept)
  if (before) disposeResidual(before)
}

/** Adds a gradient to the sums, which own it afterwards. */
function addTo(gradients: Map<string, Tensor>, name: string, more: Tensor): void {
  const sum = gradients.get(name)
  if (!sum) return void gradients.set(name, more)
  gradients.set(name, add(sum, more))
  dispose([sum, more])
}
