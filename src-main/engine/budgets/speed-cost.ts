import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { speedText } from '#contract/runs/amount-text.ts'
import type { SpeedBudget } from '#contract/runs/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import type { CostLimit } from '#engine/pruning/budget.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'

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
