import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { Handle, RawOperations } from '#engine/backend/raw-operations.ts'

/** Sums x'x in float64 and finds its eigenvectors, both in TensorFlow. Only the result leaves the runtime. */
export class RuntimeMoments {
  readonly #raw: RawOperations
  #sum: Handle | undefined

  constructor(raw: RawOperations) {
    this.#raw = raw
  }

  /** Adds x'x, for x [rows, D]. */
  add(x: Tensor2D): void {
    const raw = this.#raw
    const wide = raw.cast(raw.of(x), 'float32', 'float64')
    const double = raw.type('T', 'float64')
    const product = raw.run('MatMul', [double, raw.flag('transpose_a', true), raw.flag('transpose_b', false)], wide, wide)
    raw.delete(wide)
    const before = this.#sum
    this.#sum = before === undefined ? product : raw.run('AddV2', [double], before, product)
    if (before !== undefined) raw.delete(before, product)
  }

  /** Returns the eigenvectors as columns, [D, D], by ascending eigenvalue, and the eigenvalues, [D]. */
  solve(): { vectors: Float32Array; eigenvalues: Float32Array } {
    if (this.#sum === undefined) throw new Error('No rows were added to the covariance.')
    const raw = this.#raw
    const solved = raw.runForAll('SelfAdjointEigV2', [raw.flag('compute_v', true), raw.type('T', 'float64')], [this.#sum], 2)
    const [eigenvalues, vectors] = solved.map((handle) => raw.cast(handle, 'float64', 'float32')) as [Handle, Handle]
    try {
      return { vectors: raw.read(vectors), eigenvalues: raw.read(eigenvalues) }
    } finally {
      raw.delete(...solved, eigenvalues, vectors)
    }
  }

  dispose(): void {
    if (this.#sum !== undefined) this.#raw.delete(this.#sum)
    this.#sum = undefined
  }
}
