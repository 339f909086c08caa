import { heldOutKinds, heldOutWindows } from '#contract/pruning/default-recovery.ts'
import type { MethodPhase } from '../method.ts'
import { readingDense } from './final-states.ts'
import { measurementsOf, recovering } from './training.ts'

/** Cost of a forward and a backward pass, in forward passes. The backward pass multiplies once for inputs and once for weights. */
const trained = 3

/** Products with the head per trained window: the logits of both models, and the gradient of the final states. */
const headProducts = 3

/**
 * Returns the work of a recovery.
 * @param windows that are trained on
 * @param left the share of the block stack that the plan leaves
 */
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
