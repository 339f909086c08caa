import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { speedText } from '#contract/runs/amount-text.ts'
import type { SpeedBudget } from '#contract/runs/run-request.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import type { CostLimit } from '#engine/pruning/budget.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'

/** Milliseconds of files of these plans, measured in turns: per generated token, or to the first one, depending on the budget. */
export type TimePlans = (plans: readonly Plan[]) => Promise<number[]>

/** Neurons of all MLPs together, and attention submodules. */
interface Parts {
  readonly neurons: number
  readonly attentions: number
}

/** No plan's time is below this share of the dense model's, but sums of measured times can be. */
const leastShare = 0.01

/** Converts milliseconds to the budget's unit, and back. */
export const inUnit = (budget: SpeedBudget, value: number): number => ('milliseconds' in budget ? value : 1000 / value)

/**
 * The time of any plan, from three measured files: the dense model, MLPs of an eighth of the width, and one attention. Time is assumed to
 * grow linearly with neurons and with attention submodules. The real time of a plan is measured at the end.
 */
export async function speedCost(spec: DecoderSpec, budget: SpeedBudget, time: TimePlans): Promise<CostLimit> {
  const dense = densePlan(spec)
  const narrow = { blocks: dense.blocks.map((block, index) => ({ ...block, mlp: narrowed(at(spec.blocks, index).width) ?? block.mlp })) }
  const present = [...spec.blocks.keys()].filter((block) => at(spec.blocks, block).attention)
  const fewer = removeParts(dense, present.slice(1).map(attentionOf))
  const times = await time([dense, narrow, fewer])
  const all = partsOf(spec, dense)
  const saved = (index: number, parts: number) => (parts === 0 ? 0 : Math.max(0, at(times, 0) - at(times, index)) / parts)
  const neuron = saved(1, all.neurons - partsOf(spec, narrow).neurons)
  const attention = saved(2, all.attentions - partsOf(spec, fewer).attentions)
  return {
    asked: speedText(budget),
    text: (cost) => `${Number(inUnit(budget, cost).toPrecision(3))} ${'milliseconds' in budget ? 'ms' : 'tokens/s'}`,
    spare: 0,
    most: inUnit(budget, 'milliseconds' in budget ? budget.milliseconds : budget.tokensPerSecond),
    async of(plan) {
      const { neurons, attentions } = partsOf(spec, plan)
      const left = at(times, 0) - neuron * (all.neurons - neurons) - attention * (all.attentions - attentions)
      return Math.max(left, leastShare * at(times, 0))
    },
  }
}

/** An eighth of the neurons, in a multiple that types and kernels prefer; undefined if there are too few. */
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
