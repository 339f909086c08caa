import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { NormalEquations } from './normal-equations.ts'

/** Shares of the mean diagonal of G that are tried as ridge. */
export const ridges = [0.01, 0.1, 1, 10] as const

/** A projection's equations on the windows that weights are fitted on, and on those held out. */
export interface Equations {
  readonly fitted: NormalEquations
  readonly heldOut: NormalEquations
}

export interface Solution {
  /** The ridge that left the least held-out error. */
  readonly ridge: number
  /** Held-out error as a share of what the outputs should be: with the old weights, and with those fitted at that ridge. */
  readonly before: number
  readonly after: number
  /** Fitted on all windows at that ridge, [D, K]; undefined where the held-out error did not fall, so that the old ones stay. */
  readonly weight: Tensor2D | undefined
}

/** Chooses the ridge on the held-out windows and fits on all of them; of the equations, nothing is left. */
export function solveWithRidge({ fitted, heldOut }: Equations, weight: Tensor2D): Solution {
  const before = heldOut.error(weight)
  const errors = ridges.map((ridge) => {
    const candidate = fitted.solve(weight, ridge)
    const error = heldOut.error(candidate)
    candidate.dispose()
    return error
  })
  const best = errors.reduce((least, error, index) => (error < (errors[least] as number) ? index : least), 0)
  const [ridge, after] = [ridges[best] as number, errors[best] as number]
  if (!(after < before)) return { ridge, before, after, weight: undefined }
  fitted.merge(heldOut)
  return { ridge, before, after, weight: fitted.solve(weight, ridge) }
}
