import type { Tensor2D } from '@tensorflow/tfjs-core'

/**
 * The least-squares problem of one projection W [D, K]: inputs z [N, K] and target outputs t [N, D], as the sums G = z'z, C = t'z and
 * |t|^2. Sums and solves are in float64.
 */
export interface NormalEquations {
  /** Adds rows: inputs [N, K], targets [N, D]. */
  add(inputs: Tensor2D, targets: Tensor2D): void
  /** Adds sums: G [K, K], C [D, K] and |t|^2, which only errors need. */
  addSums(gram: Tensor2D, cross: Tensor2D, square: number): void
  /** Adds the sums of another one of the same kind. */
  merge(other: this): void
  /**
   * W + (C - W G)(G + ridge * tr(G)/K * 1)^-1, [D, K], for each ridge. It shrinks toward the old weights, not toward zero. If all inputs
   * are zero, these are the old weights. The caller disposes of the results.
   */
  solve(weight: Tensor2D, ridges: readonly number[]): Tensor2D[]
  /** |z W' - t|^2 relative to |t|^2. */
  error(weight: Tensor2D): number
  dispose(): void
}
