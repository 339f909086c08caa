import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan, VocabularyPlan } from '#contract/pruning/plan.ts'
import { fileSizeText, speedText } from '#contract/runs/amount-text.ts'
import type { FileBudget, RunRequest, SpeedBudget } from '#contract/runs/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { expectedPlans } from '#engine/export/check-save.ts'
import type { Described } from '#engine/export/format.ts'
import { cardRoom } from '#engine/export/gguf/gguf.ts'
import { findFormat } from '#engine/export/index.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import type { CostLimit } from '#engine/pruning/budget.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
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

/** The budget with the weight type that its file will have. */
export function typedBudget(budget: FileBudget, { weights }: Pick<RunRequest, 'weights'>): FileBudget {
  const { type, ...others } = budget
  return budget.format === 'gguf' ? { ...others, type: weights ?? type ?? 'F16' } : others
}

/** The sizes of plans as files of a budget's format, without rows of the vocabulary that are removed first. Reads no weights. */
export function fileCost(
  model: Described['model'],
  method: string,
  { bytes, format, type = 'F16' }: FileBudget,
  vocabulary?: VocabularyPlan,
): CostLimit {
  const written = findFormat(format)
  const spare = format === 'gguf' ? cardRoom : 0
  return {
    asked: fileSizeText(bytes),
    text: fileSizeText,
    most: bytes - spare,
    spare,
    of: (plan) => written.fileBytes({ model, plan: vocabulary ? { ...plan, vocabulary } : plan, method }, type),
  }
}

/** Times the files of these plans in turns. Returns milliseconds per generated token or to the first token, depending on the budget. */
export type TimePlans = (plans: readonly Plan[]) => Promise<number[]>

/** The total number of neurons in all MLPs, and the number of attention submodules. */
interface Parts {
  readonly neurons: number
  readonly attentions: number
}

/** Converts milliseconds to the budget's unit, and back. */
export const inUnit = (budget: SpeedBudget, value: number): number => ('milliseconds' in budget ? value : 1000 / value)

/**
 * Predicts the time of any plan from four measured files: the dense model, MLPs of an eighth of the width, one attention submodule, and
 * both. Between them, time is assumed to be linear in the number of neurons and in the number of attention submodules. No plan is predicted
 * to take less than half the time of the last file. The real time of the chosen plan is measured afterwards.
 */
export async function speedCost(spec: DecoderSpec, budget: SpeedBudget, time: TimePlans): Promise<CostLimit> {
  const dense = densePlan(spec)
  const narrow = { blocks: dense.blocks.map((block, index) => ({ ...block, mlp: narrowed(at(spec.blocks, index).width) ?? block.mlp })) }
  const removed = [...spec.blocks.keys()]
    .filter((block) => at(spec.blocks, block).attention)
    .slice(1)
    .map(attentionOf)
  const times = await time([dense, narrow, removeParts(dense, removed), removeParts(narrow, removed)])
  const whole = at(times, 0)
  // On a busy machine a smaller file may be measured as slower.
  const [narrower, fewer] = [Math.min(whole, at(times, 1)), Math.min(whole, at(times, 2))]
  const both = Math.min(narrower, fewer, at(times, 3))
  const [all, least] = [partsOf(spec, dense), partsOf(spec, removeParts(narrow, removed))]
  return {
    asked: speedText(budget),
    text: (cost) => `${Number(inUnit(budget, cost).toPrecision(3))} ${'milliseconds' in budget ? 'ms' : 'tokens/s'}`,
    spare: 0,
    most: inUnit(budget, 'milliseconds' in budget ? budget.milliseconds : budget.tokensPerSecond),
    async of(plan) {
      const own = partsOf(spec, plan)
      const neurons = shareRemoved(all.neurons, own.neurons, least.neurons)
      const attentions = shareRemoved(all.attentions, own.attentions, least.attentions)
      const wide = whole - attentions * (whole - fewer)
      const thin = narrower - attentions * (narrower - both)
      return Math.max(wide - neurons * (wide - thin), both / 2)
    },
  }
}

/** The number of parts that a plan removes, as a share of those that the smallest measured file removes. Above 1, the plan removes more. */
const shareRemoved = (all: number, kept: number, smallest: number): number => (all > smallest ? (all - kept) / (all - smallest) : 0)

/**
 * About an eighth of the neurons, rounded down to a multiple of 256 if possible, else of 32, because types and kernels prefer these.
 * Undefined if the MLP has fewer than eight neurons.
 */
function narrowed(width: number): { kept: number[] } | undefined {
  const left = [256, 32, 1].map((unit) => Math.floor(width / 8 / unit) * unit).find((neurons) => neurons > 0)
  return left === undefined ? undefined : { kept: Array.from({ length: left }, (_, neuron) => neuron) }
}

function partsOf(spec: DecoderSpec, { blocks, slice }: Plan): Parts {
  if (slice) throw new EspalierError('infeasible', 'llama.cpp cannot run sliced models, so their speed is unknown. Choose another method.')
  const neurons = blocks.reduce((sum, { mlp }, index) => {
    if (mlp === 'removed') return sum
    return sum + (mlp.kept === 'all' ? at(spec.blocks, index).width : mlp.kept.length)
  }, 0)
  return { neurons, attentions: blocks.filter(({ attention }) => attention === 'kept').length }
}
