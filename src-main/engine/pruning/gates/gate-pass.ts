import { dispose, type Tensor2D } from '@tensorflow/tfjs-core'
import { nextTokens } from '#engine/model/parts/head/token-losses.ts'
import type { FrozenHead, HeadLoss } from '#engine/model/parts/head/training-loss.ts'
import { advance, cloneResidual, disposeResidual, type Residual } from '#engine/model/parts/part.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { pause } from '#engine/model/walk.ts'
import type { Part, PartWeights } from '#engine/model/weights/weights.ts'
import { normalize, normalizeBackward } from '#engine/tensor/norm.ts'
import type { Products } from '#engine/tensor/products.ts'
import { KeptTables } from '#engine/tensor/rotary.ts'
import { disposePassed, type PassedPart, passBack } from '../recovery/pass.ts'
import {
  disposeGated,
  type GatedCall,
  gatedBackward,
  gatedForward,
  type KeptGated,
  type PartGates,
  type PartGradients,
} from './gated-part.ts'

/**
 * Windows of equal length that pass together. With the dense model's final states of them [B*T, D], the loss is the divergence from it.
 * Without, it is the cross-entropy of the text.
 */
export interface GateBatch {
  readonly ids: Int32Array
  readonly batch: number
  readonly dense?: Tensor2D
  /** Returns the tokens that the cross-entropy takes for the ones that follow, given the final states. Default: those of the text. */
  readonly targets?: (states: Tensor2D) => Promise<Int32Array>
}

export interface GatePassOptions extends Pick<GatedCall, 'observe'> {
  readonly products: Products
  /** Whether what the backward pass needs is kept. If not, it is computed again, part by part, from the streams. */
  readonly keeps: boolean
  readonly signal?: AbortSignal | undefined
  /** Receives the gradient of the stream before the first part, [N, D]. It does not keep it. */
  readonly observeFirst?: (gradient: Tensor2D) => void
}

export interface GateGradients {
  /** The loss, summed over the rows of the batch. */
  readonly loss: number
  /** The gradients of `scale` times the loss with respect to the gates of each part. */
  readonly parts: ReadonlyMap<Part, PartGradients>
}

/** Takes batches forward and backward through a model whose parts have gates. Weights have no gradients. */
export class GatePass {
  readonly #view: ModelView
  readonly #head: FrozenHead
  readonly #options: GatePassOptions
  readonly #tables = new KeptTables()

  constructor(view: ModelView, head: FrozenHead, options: GatePassOptions) {
    this.#view = view
    this.#head = head
    this.#options = options
  }

  /** Returns the loss of a batch and the gradients of all gates, which `gatesOf` returns by part. */
  async gradients(own: GateBatch, scale: number, gatesOf: (part: Part) => PartGates): Promise<GateGradients> {
    const { ids, batch } = own
    const { parts, spec, model } = this.#view
    const call = this.#callFor(batch, ids.length / batch)
    const passed: PassedPart<KeptGated>[] = []
    const x = await model.vocabulary.embed(ids)
    let residual: Residual = { x, source: x.clone() }
    try {
      for (const [index, part] of parts.entries()) {
        await pause(this.#options.signal)
        const before = residual
        const seen = await this.#withPart(part, parts[index + 1], (weights) => gatedForward(part, weights, before, call, gatesOf(part)))
        passed.push({ part, ...(this.#options.keeps ? { kept: seen.kept } : { before: cloneResidual(before) }) })
        if (!this.#options.keeps) disposeGated(seen.kept)
        residual = advance(part, before, seen.x, spec)
      }
      const { finalNorm } = model.vocabulary
      const states = normalize(residual.x, finalNorm)
      const { sum, gradient } = await this.#loss(states, own, scale).finally(() => states.dispose())
      const last = normalizeBackward(residual.x, finalNorm, gradient as Tensor2D)
      dispose([gradient as Tensor2D, last.weight, last.bias])
      return { loss: sum, parts: await this.#backward(call, passed, last.x, gatesOf) }
    } finally {
      disposeResidual(residual)
      for (const one of passed) disposePassed(one, disposeGated)
    }
  }

  async #loss(states: Tensor2D, { ids, batch, dense, targets }: GateBatch, scale: number): Promise<HeadLoss> {
    const call = { scale, signal: this.#options.signal }
    if (dense) return this.#head.divergence(states, dense, call)
    return this.#head.crossEntropy(states, targets ? await targets(states) : nextTokens(ids, ids.length / batch), call)
  }

  /** Goes back from the last part to the first, starting with the gradient of the stream after the last part, which it disposes of. */
  async #backward(
    call: GatedCall,
    passed: PassedPart<KeptGated>[],
    last: Tensor2D,
    gatesOf: (part: Part) => PartGates,
  ): Promise<Map<Part, PartGradients>> {
    const gradients = new Map<Part, PartGradients>()
    const back = async (own: PassedPart<KeptGated>, gradient: Tensor2D, next: Part | undefined) => {
      await pause(this.#options.signal)
      const found = await this.#partBackward(own, next, gradient, call, gatesOf(own.part))
      gradients.set(own.part, found.gradients)
      return found.source
    }
    const first = await passBack(this.#view.spec, passed, last, back, disposeGated)
    this.#options.observeFirst?.(first)
    first.dispose()
    return gradients
  }

  #partBackward(
    { part, kept, before }: PassedPart<KeptGated>,
    next: Part | undefined,
    gradient: Tensor2D,
    call: GatedCall,
    gates: PartGates,
  ) {
    return this.#withPart(part, next, async (weights) => {
      if (kept) return gatedBackward(part, weights, kept, gradient, call, gates)
      const again = await gatedForward(part, weights, before as Residual, call, gates)
      again.x.dispose()
      return gatedBackward(part, weights, again.kept, gradient, call, gates).finally(() => disposeGated(again.kept))
    })
  }

  async #withPart<T>(part: Part, next: Part | undefined, use: (weights: PartWeights) => Promise<T>): Promise<T> {
    const weights = await this.#view.lease(part, next)
    try {
      return await use(weights)
    } finally {
      this.#view.release(part, weights)
    }
  }

  #callFor(batch: number, tokens: number): GatedCall {
    const { spec } = this.#view
    const { products, observe } = this.#options
    return { spec, batch, products, observe, rotary: (block) => this.#tables.of(spec.rotary(block), tokens) }
  }

  dispose(): void {
    this.#tables.dispose()
  }
}
