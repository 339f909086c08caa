import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { expectedPlans } from '#engine/export/check-save.ts'
import type { CostLimit } from '#engine/pruning/budget.ts'
import { parseOptions } from '#engine/pruning/options.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'

/** How many sparsities are tried over the whole range, and how often the step between two is halved. */
const [coarse, halvings] = [32, 12]

interface Asked {
  readonly method: string
  readonly options: Record<string, unknown>
}

/** A sparsity with the predicted cost of its result, and the smallest and largest budget that the method can meet. */
export interface FoundSparsity {
  readonly sparsity: number
  readonly predicted: number
  readonly least: number
  readonly most: number
}

/**
 * Finds the sparsity whose likely results cost as much as the limit allows. Throws `infeasible` with the range of the method if no sparsity
 * meets the limit, or if the dense model already does.
 * @param target the cost to aim for instead of the limit, to correct an earlier result
 */
export async function findSparsity(spec: DecoderSpec, asked: Asked, cost: CostLimit, target = cost.most): Promise<FoundSparsity> {
  const range = await costRange(spec, asked, cost)
  const costAt = (sparsity: number) => largestCost(spec, { ...asked, sparsity }, cost)
  const sparsities = stepsOf(spec, asked)
  const costs: number[] = []
  for (const sparsity of sparsities) costs.push(sparsity === 0 ? range.most - cost.spare : await costAt(sparsity))
  const fitting = [...costs.keys()].filter((step) => at(costs, step) <= target)
  const first = fitting.sort((a, b) => at(costs, b) - at(costs, a) || a - b)[0]
  if (first === undefined || range.most - cost.spare <= cost.most) throw outOfRange(findMethod(asked.method).title, range, cost)
  let [tooLittle, enough, predicted] = [at(sparsities, Math.max(0, first - 1)), at(sparsities, first), at(costs, first)]
  for (let halving = 0; halving < halvings; halving++) {
    const middle = (tooLittle + enough) / 2
    const middleCost = await costAt(middle)
    if (middleCost > target) tooLittle = middle
    else [enough, predicted] = [middle, middleCost]
  }
  return { ...range, sparsity: enough, predicted }
}

/**
 * The smallest budget that a method can meet, and the one that the dense model meets. Throws `infeasible` if the format can hold neither.
 */
export async function costRange(spec: DecoderSpec, asked: Asked, cost: CostLimit): Promise<Pick<FoundSparsity, 'least' | 'most'>> {
  const most = await cost.of(densePlan(spec))
  for (const sparsity of stepsOf(spec, asked).toReversed()) {
    const least = sparsity === 0 ? most : await largestCost(spec, { ...asked, sparsity }, cost)
    if (Number.isFinite(least)) return { least: least + cost.spare, most: most + cost.spare }
  }
  return { least: most + cost.spare, most: most + cost.spare }
}

/** Evenly spaced sparsities from 0 to the maximum that the method allows. */
function stepsOf(spec: DecoderSpec, { method: id, options }: Asked): number[] {
  const method = findMethod(id)
  const { most } = method.range(spec, parseOptions(method, options))
  return Array.from({ length: coarse + 1 }, (_, step) => (most * step) / coarse)
}

/**
 * The cost of a method's most expensive likely plan; infinite if the method has no plan at this sparsity, or if the format cannot hold it.
 */
async function largestCost(spec: DecoderSpec, asked: Asked & { sparsity: number }, cost: CostLimit): Promise<number> {
  const { sparsity, ...method } = asked
  try {
    const plans = expectedPlans(spec, { ...method, amount: { sparsity } })
    return Math.max(...(await Promise.all(plans.map((plan) => cost.of(plan)))))
  } catch (thrown) {
    if (thrown instanceof EspalierError && thrown.code === 'infeasible') return Number.POSITIVE_INFINITY
    throw thrown
  }
}

function outOfRange(title: string, range: { least: number; most: number }, cost: CostLimit): EspalierError {
  const [from, to] = [cost.text(range.least, Math.ceil), cost.text(range.most, Math.floor)]
  const met = `The unpruned model already meets ${cost.asked}: it has ${to}, and ${title} can reach ${from}. Choose a budget between these.`
  const missed = `${title} cannot reach ${cost.asked}: its files have ${from} to ${to}. Choose a budget in that range.`
  return new EspalierError('infeasible', range.most - cost.spare <= cost.most ? met : missed, { range })
}
