import { concat, dispose, gather, mul, slice, softmax, square, sub, type Tensor2D, tensor1d, tensor2d, tidy } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
import { activeBackend } from '#engine/backend/active.ts'
import type { NativeBf16Ops, PackedMatrix } from '#engine/backend/bf16-ops.ts'
import { breathe } from '#engine/model/walk.ts'
import { capValues } from '#engine/tensor/activation.ts'
import { combine, isPacked, type Matrix, matrixFor, type Products, packFor, project } from '#engine/tensor/products.ts'
import type { HeadChunk } from './embedding-and-head.ts'
import { addTargetLogits, compareLogits, logitsPerTile, logSumExponents } from './token-losses.ts'

/** The most rows of final states in a tile. The logits of the other model and the difference take as much memory again. */
export const mostRows = 256

/** How much the output of final states differs from that of the dense model. */
export interface HeadLoss {
  /** The divergence from the dense distribution summed over rows, in nats. */
  readonly sum: number
  /** The gradient of `sum * scale` with respect to the final states, [N, D]. The caller disposes of it. Absent if it was not requested. */
  readonly gradient?: Tensor2D
}

export interface HeadCall {
  /** The factor on the loss in the gradient. No gradient is computed without it. */
  readonly scale?: number
  readonly signal?: AbortSignal | undefined
}

/** The head, which is not trained, in the forms that its products need: for logits, and for gradients with respect to final states. */
export class FrozenHead {
  readonly #chunk: HeadChunk
  readonly #forward: Matrix
  /** Transposed and packed, if products have 16-bit operands. */
  readonly #transposed: PackedMatrix | undefined
  /** Computes loss and gradient in one operation, without storing logits. */
  readonly #fused: NativeBf16Ops | undefined

  /** `chunk` is the complete head, which still belongs to the model. */
  constructor(chunk: HeadChunk, products: Products) {
    this.#chunk = chunk
    this.#forward = matrixFor(chunk.weight, products)
    if (products === 'float32') return
    this.#transposed = packFor(chunk.weight, products, true)
    if (products === 'bfloat16') this.#fused = activeBackend().bf16
  }

  /** The most rows of final states in one tile. */
  get rowsPerTile(): number {
    if (this.#fused) return mostRows
    return Math.max(1, Math.min(mostRows, Math.floor(logitsPerTile / this.#chunk.weight.shape[0])))
  }

  /**
   * Returns the Kullback-Leibler divergence of `own` from `dense`, final states [N, D] each, over the whole vocabulary (see README.md). It
   * is computed in tiles of rows, so no [N, V] matrix exists. Timers and messages are handled between products.
   */
  async divergence(own: Tensor2D, dense: Tensor2D, { scale, signal }: HeadCall = {}): Promise<HeadLoss> {
    const gradients: Tensor2D[] = []
    let total = 0
    try {
      for (let row = 0; row < own.shape[0]; row += this.rowsPerTile) {
        const rows = Math.min(this.rowsPerTile, own.shape[0] - row)
        if (this.#fused) {
          const found = await this.#divergenceOf(
            this.#fused,
            slice(own, [row, 0], [rows, -1]),
            slice(dense, [row, 0], [rows, -1]),
            scale,
            signal,
          )
          total += found.sum
          if (found.gradient) gradients.push(found.gradient)
          continue
        }
        const [ownLogits, denseLogits] = [await this.#logits(own, row, rows, signal), await this.#logits(dense, row, rows, signal)]
        try {
          total += sumOfDivergences(ownLogits, denseLogits)
          if (scale !== undefined)
            gradients.push(await this.#throughHead(ownLogits, () => mul(sub(softmax(ownLogits), softmax(denseLogits)), scale), signal))
        } finally {
          dispose([ownLogits, denseLogits])
        }
      }
      return { sum: total, ...(scale === undefined ? {} : { gradient: tidy(() => concat(gradients, 0)) }) }
    } finally {
      dispose(gradients)
    }
  }

  /**
   * Returns the cross-entropy of the tokens that follow the final states [N, D], summed over rows, and its gradient as `divergence` does.
   * Rows with the target -1 do not count.
   */
  async crossEntropy(own: Tensor2D, targets: Int32Array, { scale, signal }: HeadCall = {}): Promise<HeadLoss> {
    const gradients: Tensor2D[] = []
    let total = 0
    try {
      for (let row = 0; row < own.shape[0]; row += this.rowsPerTile) {
        const rows = Math.min(this.rowsPerTile, own.shape[0] - row)
        const ofRows = targets.subarray(row, row + rows)
        const counts = Float32Array.from(ofRows, (id) => (id < 0 ? 0 : 1))
        const ids = ofRows.map((id) => Math.max(0, id))
        const ofTargets = new Float64Array(rows)
        const logits = await this.#logits(own, row, rows, signal)
        try {
          const states = slice(own, [row, 0], [rows, -1])
          addTargetLogits(ofTargets, states, ids, this.#chunk)
          states.dispose()
          for (const [index, log] of logSumExponents(logits).entries()) total += at(counts, index) * (log - at(ofTargets, index))
          if (scale === undefined) continue
          const factors = tensor2d(
            counts.map((counted) => counted * scale),
            [rows, 1],
          )
          const bySoftmax = await this.#throughHead(logits, () => mul(softmax(logits), factors), signal)
          gradients.push(tidy(() => sub(bySoftmax, mul(factors, this.#headRows(ids, ofTargets)))))
          dispose([factors, bySoftmax])
        } finally {
          logits.dispose()
        }
      }
      return { sum: total, ...(scale === undefined ? {} : { gradient: tidy(() => concat(gradients, 0)) }) }
    } finally {
      dispose(gradients)
    }
  }

  /** Returns the gradient of the capped logit of each row's token with respect to the final states, [N, D]. */
  #headRows(ids: Int32Array, logits: Float64Array): Tensor2D {
    const { weight, cap } = this.#chunk
    const rows: Tensor2D = gather(weight, tensor1d(ids, 'int32'))
    if (cap === undefined) return rows
    return mul(
      rows,
      tensor2d(
        Float32Array.from(logits, (logit) => 1 - (logit / cap) ** 2),
        [ids.length, 1],
      ),
    )
  }

  /** Returns the divergence of rows of both models, and disposes of the rows. */
  async #divergenceOf(
    units: NativeBf16Ops,
    own: Tensor2D,
    dense: Tensor2D,
    scale: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<HeadLoss> {
    await breathe()
    try {
      signal?.throwIfAborted()
      const head = {
        packed: this.#forward as PackedMatrix,
        transposed: this.#transposed as PackedMatrix,
        bias: this.#chunk.bias,
        cap: this.#chunk.cap,
      }
      const [losses, gradient] = units.divergence(own, dense, head, scale)
      const sum = (losses.dataSync() as Float32Array).reduce((total, loss) => total + loss, 0)
      losses.dispose()
      if (scale !== undefined) return { sum, gradient }
      gradient.dispose()
      return { sum }
    } finally {
      dispose([own, dense])
    }
  }

  async #logits(states: Tensor2D, row: number, rows: number, signal: AbortSignal | undefined): Promise<Tensor2D> {
    await breathe()
    signal?.throwIfAborted()
    return tidy(() => capValues(project(slice(states, [row, 0], [rows, -1]), this.#forward, this.#chunk.bias), this.#chunk.cap))
  }

  /** Returns the gradient of final states, given that of their capped logits. */
  async #throughHead(logits: Tensor2D, byLogits: () => Tensor2D, signal: AbortSignal | undefined): Promise<Tensor2D> {
    await breathe()
    signal?.throwIfAborted()
    const { cap } = this.#chunk
    return tidy(() => {
      const inner: Tensor2D = cap === undefined ? byLogits() : mul(byLogits(), sub(1, square(mul(logits, 1 / cap))))
      return this.#transposed ? project(inner, this.#transposed) : combine(inner, this.#chunk.weight)
    })
  }

  dispose(): void {
    if (isPacked(this.#forward)) this.#forward.values.dispose()
    this.#transposed?.values.dispose()
  }
}

/** Sums p (log p - log q) over rows of logits [N, V], in float64. */
function sumOfDivergences(own: Tensor2D, dense: Tensor2D): number {
  const { shift, denseLog, ownLog } = compareLogits(dense, own, 1)
  let total = 0
  for (let row = 0; row < shift.length; row++) total += at(shift, row) - at(denseLog, row) + at(ownLog, row)
  return total
}
