import { heldOutKinds, heldOutWindows } from '#contract/pruning/usual-recovery.ts'
import type { MethodPhase } from '../method.ts'
import { readingDense } from './final-states.ts'
import { measurementsOf, recovering } from './training.ts'

/** The cost of a forward and a backward pass, in forward passes: products by inputs and by weights come on top of the first. */
const trained = 3

/** Products with the head per trained window: logits of both models, and the gradient by final states. */
const headProducts = 3

/** The work of a recovery, given the share of the stack that the plan leaves. @param windows trained on */
export function recoveryPhases(blocks: number, windows: number, left: number): MethodPhase[] {
  const heldOut = heldOutKinds.length * heldOutWindows
  const measured = heldOut * (measurementsOf(windows) + 1)
  const dense = (windows + heldOut) * blocks
  const own = blocks * left * (trained * windows + measured)
  return [
    { phase: readingDense, passes: { attention: dense, mlp: dense, head: 0 } },
    { phase: recovering, passes: { attention: own, mlp: own, head: headProducts * windows + 2 * measured } },
  ]
}
