import type { Tensor2D } from '@tensorflow/tfjs-core'

/**
 * The least-squares problem of one projection W [D, K], for inputs z [N, K] and target outputs t [N, D]. It is held as the sums G = z'z, C
 * = t'z and |t|^2. Sums and solves are in float64.
 */
export interface NormalEquations {
  /** Adds rows: inputs [N, K], targets [N, D]. */
  add(inputs: Tensor2D, targets: Tensor2D): void
  /** Adds sums that were computed elsewhere: G [K, K], C [D, K] and |t|^2, which only `error` needs. */
  addSums(gram: Tensor2D, cross: Tensor2D, square: number): void
  /** Takes over the sums of other equations of the same class, which must not be used afterwards. */
  merge(other: this): void
  /**
   * Returns W + (C - W G)(G + ridge * tr(G)/K * 1)^-1, [D, K], for each ridge. A larger ridge keeps the result closer to the old weights W,
   * not to zero. If all inputs are zero, the result is W. The caller disposes of the results.
   */
  solve(weight: Tensor2D, ridges: readonly number[]): Tensor2D[]
  /** Returns |z W' - t|^2 relative to |t|^2. */
  error(weight: Tensor2D): number
  dispose(): void
}
