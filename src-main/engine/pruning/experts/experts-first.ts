import { EspalierError } from '#contract/errors.ts'
import type { JudgedExperts } from '#contract/pruning/experts.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import type { DecoderSpec, RouterKind } from '#engine/architectures/spec.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import type { MethodInput } from '../method.ts'
import { expertsToRemove, likelyGone, lowestRankedExperts, planWithoutExperts } from './expert-plan.ts'
import { judgeExperts, rankBy, statisticsFor } from './expert-statistics.ts'

interface WithoutExperts {
  /** The spec of the model without the removed experts. All experts of a mixture have one size, so it does not matter which are removed. */
  readonly left: DecoderSpec
  /** How many experts all mixtures lose together. */
  readonly removed: number
  /** The sparsity to which the remaining model must be pruned to reach the requested one in total. */
  readonly sparsity: number
}

/**
 * Returns what remains to be removed after a share of each mixture's experts. Throws `infeasible` if that share alone exceeds the sparsity.
 */
export function withoutExperts(spec: DecoderSpec, sparsity: number, share: number): WithoutExperts {
  const wanted = expertsToRemove(spec, share, 'uniform')
  const [gone = new Map()] = likelyGone(spec, wanted, 'uniform')
  const left = specWithPlan(spec, planWithoutExperts(spec, gone, 'dropped'))
  const [whole, rest] = [stackParameters(spec), stackParameters(left)]
  const own = 1 - rest / whole
  if (own > sparsity + 1e-9) {
    throw new EspalierError(
      'infeasible',
      `Removing a share of ${share} of the experts alone is a sparsity of ${own.toFixed(4)}, which is above ${sparsity}. Choose a higher sparsity or a smaller share.`,
    )
  }
  return { left, removed: wanted.reduce((sum, count) => sum + count, 0), sparsity: Math.max(0, ((sparsity - own) * whole) / rest) }
}

/** Runs REAP with its default options: it removes the same share of each mixture's experts, super experts last. */
export async function planExperts(
  input: MethodInput<{ readonly windows: number }>,
  share: number,
): Promise<{ plan: Plan; experts: JudgedExperts }> {
  const { spec } = input.view
  const wanted = expertsToRemove(spec, share, 'uniform')
  const statistics = await statisticsFor(input, { outputs: undefined })
  const experts = judgeExperts(statistics, 'reap', (spec.router as RouterKind).chosen, spec.blocks.length)
  return { plan: planWithoutExperts(spec, lowestRankedExperts(spec, wanted, 'uniform', rankBy(experts, 'kept')), 'dropped'), experts }
}
