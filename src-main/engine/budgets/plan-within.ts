import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { SpeedBudget } from '#contract/runs/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { budgetFor, type CostLimit } from '#engine/pruning/budget.ts'
import type { MethodInput, MethodResult } from '#engine/pruning/method.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { findSparsity } from './find-sparsity.ts'
import { speedCost, type TimePlans } from './speed-cost.ts'

/** How a plan's real cost is found, and how close to the limit it has to be. */
export interface Verification {
  real(plan: Plan): Promise<number>
  /** The share of the limit that a result may differ from it before the method runs again. */
  readonly near: number
  /** Whether a result may pass the limit. */
  readonly mayPass: boolean
  /** How often the method may run. */
  readonly attempts: number
}

/** A result with the sparsity that it was made for, the cost that was foreseen and the real one. */
export interface ResultWithin {
  readonly result: MethodResult
  readonly sparsity: number
  readonly predicted: number
  readonly real: number
}

/**
 * Runs a method so that its plan meets a limit on cost: at the sparsity whose likely plans do, and where the plan costs something else,
 * again at a corrected one. The one closest to the limit counts. Throws `infeasible` if no sparsity meets it.
 */
export async function planWithin(
  spec: DecoderSpec,
  id: string,
  input: Omit<MethodInput<Record<string, unknown>>, 'budget'>,
  cost: CostLimit,
  { real: realCost, near, mayPass, attempts }: Verification,
): Promise<ResultWithin> {
  const asked = { method: id, options: input.options }
  let best: ResultWithin | undefined
  let found = await findSparsity(spec, asked, cost)
  let target = cost.most
  for (let attempt = 0; attempt < attempts; attempt++) {
    const result = await findMethod(id).plan({ ...input, budget: { ...budgetFor(spec, found), cost: { ...cost, most: target } } })
    const real = await realCost(result.plan)
    const one = { result, sparsity: found.sparsity, predicted: result.predicted ?? found.predicted, real }
    if ((mayPass || real <= cost.most) && distance(one, cost) < distance(best, cost)) best = one
    if (distance(best, cost) <= near * cost.most) break
    target = one.predicted + cost.most - real
    const next = await findSparsity(spec, asked, cost, target).catch((thrown: unknown) => {
      if (thrown instanceof EspalierError && thrown.code === 'infeasible') return found
      throw thrown
    })
    if (next.sparsity === found.sparsity) break
    found = next
  }
  if (best) return best
  throw new EspalierError('infeasible', `${findMethod(id).title} found no plan that meets ${cost.asked}. Choose another budget.`)
}

const distance = (one: ResultWithin | undefined, { most }: CostLimit): number =>
  one ? Math.abs(one.real - most) : Number.POSITIVE_INFINITY

/** The same for a speed: times of three files say what a plan takes, and the plan's own file is measured. */
export async function planAtSpeed(
  spec: DecoderSpec,
  id: string,
  input: Omit<MethodInput<Record<string, unknown>>, 'budget'>,
  budget: SpeedBudget,
  time: TimePlans,
): Promise<ResultWithin> {
  const cost = await speedCost(spec, budget, time)
  const real = async (plan: Plan) => at(await time([plan]), 0)
  return planWithin(spec, id, input, cost, { real, near: 0.05, mayPass: true, attempts: 2 })
}
