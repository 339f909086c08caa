import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { NormalEquations } from './normal-equations.ts'

/** Shares of the mean diagonal of G that are tried as ridge. */
export const ridges = [0.01, 0.1, 1, 10] as const

/** Ridges that are solved for at once: more would take more memory than threads could use. */
export const sideBySide = 2

/** A projection's equations on the windows that weights are fitted on, and on those held out. */
export interface Equations {
  readonly fitted: NormalEquations
  readonly heldOut: NormalEquations
}

interface Solution {
  /** The ridge that left the least held-out error. */
  readonly ridge: number
  /** Held-out error as a share of what the outputs should be: with the old weights, and with those fitted at that ridge. */
  readonly before: number
  readonly after: number
  /** Fitted on all windows at that ridge, [D, K]; undefined where the held-out error did not fall, so that the old ones stay. */
  readonly weight: Tensor2D | undefined
}

/** Chooses the ridge on the held-out windows and fits on all of them; of the equations, nothing is left. */
export function solveWithRidge(equations: Equations, weight: Tensor2D): Solution {
  const { fitted, heldOut } = equations
  const before = heldOut.error(weight)
  const { ridge, error: after } = chooseRidge(equations, weight)
  if (!(after < before)) return { ridge, before, after, weight: undefined }
  fitted.merge(heldOut)
  return { ridge, before, after, weight: fitted.solve(weight, [ridge])[0] }
}

/** The held-out error has one valley over the ridges: they are tried side by side in pairs, until it has risen. */
function chooseRidge({ fitted, heldOut }: Equations, weight: Tensor2D): { ridge: number; error: number } {
  const tried: { ridge: number; error: number }[] = []
  for (let first = 0; first < ridges.length && !isRising(tried); first += sideBySide) {
    const pair = ridges.slice(first, first + sideBySide)
    for (const [index, candidate] of fitted.solve(weight, pair).entries()) {
      tried.push({ ridge: pair[index] as number, error: heldOut.error(candidate) })
      candidate.dispose()
    }
  }
  return tried.reduce((least, one) => (one.error < least.error ? one : least))
}

function isRising(tried: readonly { error: number }[]): boolean {
  const [last, previous] = [tried.at(-1), tried.at(-2)]
  return last !== undefined && previous !== undefined && last.error >= previous.error
}
