import { type Tensor2D, tensor2d } from '@tensorflow/tfjs-core'
import { outside } from '#contract/at.ts'
import type { NormalEquations } from './normal-equations.ts'

/** Ridges to try, in multiples of the mean diagonal entry of G. */
export const ridges = [0.01, 0.1, 1, 10] as const

/** A projection's equations, summed separately over the windows for fitting and the held-out windows. */
export interface Equations {
  readonly fitted: NormalEquations
  readonly heldOut: NormalEquations
}

interface Solution {
  /** The ridge with the lowest held-out error. */
  readonly ridge: number
  /** Held-out error of the old weights, relative to the target outputs. */
  readonly before: number
  /** Held-out error of weights that were fitted at that ridge without the held-out windows: an estimate by a sample of many outputs. */
  readonly after: number
  /**
   * Changes of the weights, [D, K]: fitted on all windows at that ridge, and without the held-out ones if that was asked for. Undefined if
   * the held-out error did not fall, so the old weights stay.
   */
  readonly changes: { readonly all: Float64Array; readonly judged: Float64Array | undefined } | undefined
}

/**
 * Chooses the ridge on the held-out windows, by a sample of the outputs, then fits on all windows. Moves the sums of `heldOut` into
 * `fitted`, so neither can be used afterwards. The caller disposes of the equations.
 * @param judges whether all outputs are fitted without the held-out windows too
 */
export function solveWithRidge({ fitted, heldOut }: Equations, judges = false): Solution {
  const before = heldOut.error
  const sample = fitted.sample()
  const { ridge, added, change } = chooseRidge({ fitted: sample, heldOut: heldOut.sample() })
  const judged = sample === fitted ? change : judges ? fitted.solve(ridge) : undefined
  const after = before + (judged ? heldOut.errorAdded(judged) : added)
  if (!(after < before)) return { ridge, before, after, changes: undefined }
  fitted.merge(heldOut)
  return { ridge, before, after, changes: { all: fitted.solve(ridge), judged } }
}

interface Chosen {
  readonly ridge: number
  /** What the change adds to the held-out error. */
  readonly added: number
  readonly change: Float64Array
}

/** Tries ridges, smallest first, until the held-out error rises. It has only one minimum over the ridges. */
function chooseRidge({ fitted, heldOut }: Equations): Chosen {
  let best: Chosen | undefined
  for (const ridge of ridges) {
    const change = fitted.solve(ridge)
    const added = heldOut.errorAdded(change)
    if (best && !(added < best.added)) break
    best = { ridge, added, change }
  }
  return best as Chosen
}

/** Returns the weights [D, K] with a change. The caller disposes of them. */
export function changed(weight: Tensor2D, change: Float64Array): Tensor2D {
  const values = new Float32Array(weight.dataSync())
  for (let i = 0; i < values.length; i++) values[i] = (values[i] ?? outside(values, i)) + (change[i] ?? outside(change, i))
  return tensor2d(values, weight.shape)
}
