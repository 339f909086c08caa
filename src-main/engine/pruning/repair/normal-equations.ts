import type { Tensor2D } from '@tensorflow/tfjs-core'

/**
 * The least-squares problem of one projection W [D, K]: inputs z [N, K] and the outputs t [N, D] that they should give, as the sums
 * G = z'z, C = t'z and |t|^2. Sums and solves are in float64.
 */
export interface NormalEquations {
  /** Adds rows: inputs [N, K], targets [N, D]. */
  add(inputs: Tensor2D, targets: Tensor2D): void
  /** The equations of the first columns alone, with sums of their own. */
  leading(columns: number): NormalEquations
  /** Adds all that another one of the same kind has. */
  merge(other: this): void
  /**
   * W + (C - W G)(G + ridge * tr(G)/K * 1)^-1, [D, K], for each ridge: it shrinks toward the old weights, not toward zero. The caller's
   * to dispose of. Without inputs that differ from zero, the old weights.
   */
  solve(weight: Tensor2D, ridges: readonly number[]): Tensor2D[]
  /** |z W' - t|^2 as a share of |t|^2. */
  error(weight: Tensor2D): number
  dispose(): void
}
