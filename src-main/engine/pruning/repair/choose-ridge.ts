import type { Tensor2D } from '@tensorflow/tfjs-core'
import type { NormalEquations } from './normal-equations.ts'

/** Ridges to try, as shares of the mean diagonal of G. */
export const ridges = [0.01, 0.1, 1, 10] as const

/** Ridges that are solved together. More would need more memory than threads could use. */
export const sideBySide = 2

/** A projection's equations on the windows for fitting and on the held-out ones. */
export interface Equations {
  readonly fitted: NormalEquations
  readonly heldOut: NormalEquations
}

interface Solution {
  /** The ridge with the least held-out error. */
  readonly ridge: number
  /** Held-out error relative to the target outputs: with the old weights, and with those fitted at that ridge. */
  readonly before: number
  readonly after: number
  /** Fitted on all windows at that ridge, [D, K]. Undefined if the held-out error did not fall, so the old weights stay. */
  readonly weight: Tensor2D | undefined
  /** The weights that `after` belongs to, which have not seen the held-out windows. */
  readonly judged: Tensor2D
}

/** Chooses the ridge on the held-out windows and fits on all of them. Consumes the equations. The caller disposes of both weights. */
export function solveWithRidge(equations: Equations, weight: Tensor2D): Solution {
  const { fitted, heldOut } = equations
  const before = heldOut.error(weight)
  const { ridge, error: after, judged } = chooseRidge(equations, weight)
  if (!(after < before)) return { ridge, before, after, weight: undefined, judged }
  fitted.merge(heldOut)
  return { ridge, before, after, weight: fitted.solve(weight, [ridge])[0], judged }
}

interface Tried {
  readonly ridge: number
  readonly error: number
  readonly judged: Tensor2D
}

/** The held-out error has one minimum over the ridges, so they are tried side by side in pairs until it has risen. */
function chooseRidge({ fitted, heldOut }: Equations, weight: Tensor2D): Tried {
  const tried: Tried[] = []
  for (let first = 0; first < ridges.length && !isRising(tried); first += sideBySide) {
    const pair = ridges.slice(first, first + sideBySide)
    for (const [index, candidate] of fitted.solve(weight, pair).entries()) {
      tried.push({ ridge: pair[index] as number, error: heldOut.error(candidate), judged: candidate })
    }
  }
  const best = tried.reduce((least, one) => (one.error < least.error ? one : least))
  for (const one of tried) if (one !== best) one.judged.dispose()
  return best
}

function isRising(tried: readonly { error: number }[]): boolean {
  const [last, previous] = [tried.at(-1), tried.at(-2)]
  return last !== undefined && previous !== undefined && last.error >= previous.error
}
