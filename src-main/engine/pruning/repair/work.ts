import type { RepairKind } from '#contract/pruning/repair.ts'
import { type DecoderSpec, layoutOf } from '#engine/architectures/spec.ts'
import { doubleUpTo } from '../components/covariance.ts'
import type { MethodPhase } from '../method.ts'
import { stackPasses, watched } from '../search/passes.ts'
import { sideBySide } from './choose-ridge.ts'

/**
 * Cost of a summing operation relative to one of a covariance. In `double`, rows are first widened to float64. In `float32`, which is used
 * above `doubleUpTo` columns, products are.
 */
const summing = { double: 1.8, float32: 0.35 }

/**
 * Returns the float64 operations for a projection's equations: K inputs and D outputs are summed over the rows, then solved for a pair of
 * ridges and once more for the best one.
 */
export function equationOperations(rows: number, inner: number, outer: number): number {
  const each = inner <= doubleUpTo ? summing.double : summing.float32
  const judging = 2 * inner ** 2 * outer
  return 2 * each * rows * inner * (inner + outer) + (sideBySide + 1) * (solvingOperations(inner, outer) + judging)
}

/** Returns the float64 operations of one solve. */
export const solvingOperations = (inner: number, outer: number): number => inner ** 3 / 3 + 4 * inner ** 2 * outer

export const repairing = 'Repairing'

/**
 * Returns the work of a repair. For `one-pass`, the windows run through the dense model once. For `in-order`, they also run through the
 * repaired model, and attention is fitted as well. A pruned mixture runs once more, and several times if memory holds the inputs of only
 * some experts.
 * @param left the shares of MLP neurons, of attention submodules and of experts that the plan leaves
 */
export function repairPhase(
  spec: DecoderSpec,
  kind: RepairKind,
  windows: number,
  left: { readonly neurons: number; readonly attention: number; readonly experts: number },
): MethodPhase {
  const blocks = spec.blocks.length
  const inOrder = kind === 'in-order'
  const times = (inOrder ? 2 : 1) * watched
  const { mlp, ...others } = stackPasses(blocks, times * windows)
  const passes = { ...others, mlp: spec.router ? 2 * mlp : mlp }
  const kept = Math.round(left.neurons * Math.max(...spec.blocks.map((_, block) => layoutOf(spec, block).width)))
  const attentionProjections = inOrder ? left.attention * blocks : (1 - left.attention) * blocks
  const float64Operations = (tokens: number) => {
    const rows = windows * tokens * (inOrder ? 2 : 1)
    const experts = Math.max(1, ...spec.blocks.map(({ experts = 1 }) => Math.round(left.experts * experts)))
    const rowsOfOne = (rows * Math.min(experts, spec.router?.chosen ?? 1)) / experts
    return (
      blocks * experts * equationOperations(rowsOfOne, kept, spec.hidden) +
      attentionProjections * equationOperations(rows, spec.heads * spec.headSize, spec.hidden)
    )
  }
  return { phase: repairing, passes, float64Operations }
}
