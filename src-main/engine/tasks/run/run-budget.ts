import { amountText, fileSizeText, isPlain, speedText } from '#contract/runs/amount-text.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { SpeedBudget } from '#contract/runs/run-request.ts'
import { fileCost, typedBudget } from '#engine/budgets/file-cost.ts'
import { planAtSpeed, planWithin } from '#engine/budgets/plan-within.ts'
import { inUnit } from '#engine/budgets/speed-cost.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { MethodInput, MethodResult } from '#engine/pruning/method.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import type { RunPlace } from './run-place.ts'
import { timePlans } from './time-plans.ts'

/** A method's result, and the sparsity that was requested or that met the budget. */
export interface ChosenPlan {
  readonly result: MethodResult
  readonly sparsity: number
  /** With a budget: the predicted cost, which the sparsity was chosen by, and the real cost. */
  readonly predicted?: number
  readonly real?: number
}

/** Runs the method for the requested amount, or for the amount that meets the budget. */
export async function choosePlan(place: RunPlace, input: Omit<MethodInput<Record<string, unknown>>, 'budget'>): Promise<ChosenPlan> {
  const { model, request } = place
  const { amount, method } = request
  if (isPlain(amount)) {
    const budget = budgetFor(model.spec, amount)
    return { result: await findMethod(method).plan({ ...input, budget }), sparsity: budget.sparsity }
  }
  if (!('bytes' in amount)) return planAtSpeed(model.spec, method, input, amount, timePlans(place, amount))
  const cost = fileCost(model, method, typedBudget(amount, request))
  return planWithin(model.spec, method, input, cost, { real: cost.of, near: 0.01, mayPass: false, attempts: 3 })
}

const relative = ' The machine’s speed changes, so this is relative to the time of the unpruned file at the start of the run.'

/**
 * The budget with the predicted and the real cost of the result, which are also noted. The size of a file that the run wrote is its real
 * size; otherwise it is computed from the plan.
 */
export function budgetMet(place: RunPlace, { predicted, real }: ChosenPlan, written: number | undefined): Pick<RunDocument, 'budget'> {
  const { amount } = place.request
  if (isPlain(amount) || predicted === undefined || real === undefined) return {}
  const inOwn = (cost: number) => ('bytes' in amount ? cost : inUnit(amount, cost))
  const isWritten = 'bytes' in amount && amount.format === 'gguf'
  const found = { predicted: inOwn(predicted), real: (isWritten ? written : undefined) ?? inOwn(real) }
  const off = `${(100 * Math.abs(found.predicted / found.real - 1)).toFixed(2)} % ${found.predicted < found.real ? 'less' : 'more'}`
  const text = 'bytes' in amount ? fileSizeText(found.real) : speedText(withValue(amount, found.real))
  place.note(`The file has ${text}; ${amountText(amount)} was requested. The prediction was ${off}.${'bytes' in amount ? '' : relative}`)
  return { budget: 'bytes' in amount ? { ...typedBudget(amount, place.request), ...found } : { ...amount, ...found } }
}

/** The speed with its requested value replaced by a measured one. */
function withValue(budget: SpeedBudget, value: number): SpeedBudget {
  const rounded = Number(value.toPrecision(3))
  return 'milliseconds' in budget ? { ...budget, milliseconds: rounded } : { tokensPerSecond: rounded }
}
