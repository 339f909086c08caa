import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { FileBudget, RunRequest, SpeedBudget } from '#contract/runs/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { type KeptAnswers, oncePerModel } from '#engine/checkpoint/once-per-model.ts'
import type { Described } from '#engine/export/format.ts'
import { budgetFor, type CostLimit } from '#engine/pruning/budget.ts'
import { type MethodInput, type MethodResult, parseOptions } from '#engine/pruning/method.ts'
import { likelyRows } from '#engine/pruning/methods/vocabulary.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { costRange, type FoundSparsity, fileCost, findSparsity, speedCost, type TimePlans, typedBudget } from './find-sparsity.ts'

/** How to find a plan's real cost, and how close to the limit it must be. */
interface Verification {
  real(plan: Plan): Promise<number>
  /** Tolerance as a share of the limit. If the best result so far is further from the limit, the method runs again. */
  readonly near: number
  /** Whether a result may exceed the limit. */
  readonly mayPass: boolean
  /** The maximum number of times that the method runs. */
  readonly attempts: number
}

/** A result with its sparsity, its predicted cost and its real one. */
interface ResultWithin {
  readonly result: MethodResult
  readonly sparsity: number
  readonly predicted: number
  readonly real: number
}

/**
 * Runs a method at the sparsity whose likely plans meet a limit on cost. If the plan's real cost differs, runs it again at a corrected
 * sparsity. Returns the result closest to the limit. Throws `infeasible` if no sparsity meets the limit.
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

/**
 * The same for a limit on time. The times of four files predict a plan's time. Then the plan's own file is timed in turns with the dense
 * file. A processor's speed can change by half within seconds, so the plan's time is the dense file's first time multiplied by the ratio of
 * the two.
 */
export async function planAtSpeed(
  spec: DecoderSpec,
  id: string,
  input: Omit<MethodInput<Record<string, unknown>>, 'budget'>,
  budget: SpeedBudget,
  time: TimePlans,
): Promise<ResultWithin> {
  const cost = await speedCost(spec, budget, time)
  const dense = densePlan(spec)
  const first = await cost.of(dense)
  const real = async (plan: Plan) => {
    const times = await time([dense, plan])
    return (first * at(times, 1)) / at(times, 0)
  }
  return planWithin(spec, id, input, cost, { real, near: 0.05, mayPass: true, attempts: 4 })
}

type FileRange = Pick<FoundSparsity, 'least' | 'most'>
type Asked = Pick<RunRequest, 'method' | 'amount' | 'options' | 'weights' | 'vocabulary'>

const foreseen: KeptAnswers<FoundSparsity> = new WeakMap()
const ranges: KeptAnswers<FileRange | null> = new WeakMap()

/**
 * Finds the sparsity that meets a budget, and the range of sizes that the method can reach. Throws `infeasible` with this range if the
 * budget is outside of it.
 */
export function foreseeBudget(model: Described['model'], asked: Asked, budget: FileBudget): Promise<FoundSparsity> {
  const { method, options, vocabulary = null, weights = null } = asked
  return oncePerModel(foreseen, model.checkpoint, [method, options, vocabulary, weights, budget], async () => {
    const cost = fileCost(model, method, typedBudget(budget, asked), likelyRows(model.spec, asked.vocabulary))
    return findSparsity(model.spec, { method, options: parseOptions(findMethod(method), options) }, cost)
  })
}

/** The range of sizes of a method's GGUF files in the weight type of a request; null if GGUF cannot hold them. */
export function ggufRange({ name, checkpoint, spec }: Described['model'], asked: Omit<Asked, 'amount'>): Promise<FileRange | null> {
  const { method, options, vocabulary = null, weights = null } = asked
  return oncePerModel(ranges, checkpoint, [method, options, vocabulary, weights], () => rangeOf({ name, checkpoint, spec }, asked))
}

async function rangeOf(model: Described['model'], asked: Omit<Asked, 'amount'>): Promise<FileRange | null> {
  const { method, options, vocabulary } = asked
  try {
    const most = typedBudget({ bytes: Number.MAX_SAFE_INTEGER, format: 'gguf' }, asked)
    const cost = fileCost(model, method, most, likelyRows(model.spec, vocabulary))
    return await costRange(model.spec, { method, options: parseOptions(findMethod(method), options) }, cost)
  } catch (thrown) {
    if (thrown instanceof EspalierError) return null
    throw thrown
  }
}
