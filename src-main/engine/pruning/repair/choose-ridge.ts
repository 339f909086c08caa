import type { Tensor2D } from '@tensorflow/tfjs-core'
import { at } from '#contract/at.ts'
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
  /** Held-out error of `judged`, relative to the target outputs. */
  readonly after: number
  /** Fitted on all windows at that ridge, [D, K]. Undefined if the held-out error did not fall, so the old weights stay. */
  readonly weight: Tensor2D | undefined
  /** Fitted at that ridge without the held-out windows. */
  readonly judged: Tensor2D
}

/**
 * Chooses the ridge on the held-out windows, then fits on all windows. May move the sums of `heldOut` into `fitted`, so neither can be used
 * afterwards. The caller disposes of the equations and of both weights.
 */
export function solveWithRidge(equations: Equations, weight: Tensor2D): Solution {
  const { fitted, heldOut } = equations
  const before = heldOut.error(weight)
  const { ridge, error: after, judged } = chooseRidge(equations, weight)
  if (!(after < before)) return { ridge, before, after, weight: undefined, judged }
  fitted.merge(heldOut)
  return { ridge, before, after, weight: fitted.solve(weight, ridge), judged }
}

interface Tried {
  readonly ridge: number
  readonly error: number
  readonly judged: Tensor2D
}

/** Tries ridges, smallest first, until the held-out error rises. It has only one minimum over the ridges. */
function chooseRidge({ fitted, heldOut }: Equations, weight: Tensor2D): Tried {
  let best: Tried | undefined
  let tried = 0
  for (const judged of fitted.solveEach(weight, ridges)) {
    const ridge = at(ridges, tried++)
    const error = heldOut.error(judged)
    if (best && !(error < best.error)) {
      judged.dispose()
      break
    }
    best?.judged.dispose()
    best = { ridge, error, judged }
  }
  return best as Tried
}
