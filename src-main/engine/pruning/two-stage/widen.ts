import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { CostLimit } from '../budget.ts'
import { keepLargest } from './mlp-scores.ts'

/** Neurons that are added at once: what quantised formats hold without padding. */
const unit = 32

/**
 * A plan with equal widths, and more neurons in some blocks while a budget of cost leaves room. The block comes first whose next neurons
 * have the largest share of its scores; the last ones are added one at a time.
 * @param scores of the neurons of each block, [L][I]
 */
export async function widenWithin(plan: Plan, scores: readonly number[][], { most, of: costOf }: CostLimit): Promise<Plan> {
  const sorted = scores.map((block) => [...block].sort((a, b) => b - a))
  const fits = async (widths: readonly number[]) => (await costOf(withWidths(plan, scores, widths))) <= most
  let widths = plan.blocks.map(({ mlp }) => (mlp === 'removed' ? 0 : mlp.kept.length))
  for (let before: number[] = []; before !== widths; ) {
    before = widths
    for (const block of byGain(sorted, widths)) {
      const wider = widths.with(block, nextWidth(at(widths, block), at(sorted, block).length))
      if (await fits(wider)) widths = wider
    }
  }
  for (const block of byGain(sorted, widths).slice(0, 1)) {
    for (let step = unit / 2; step >= 1; step /= 2) {
      const wider = widths.with(block, Math.min(at(sorted, block).length, at(widths, block) + step))
      if (await fits(wider)) widths = wider
    }
  }
  return withWidths(plan, scores, widths)
}

function withWidths(plan: Plan, scores: readonly number[][], widths: readonly number[]): Plan {
  const { kept } = keepLargest(scores, widths, 'neuron')
  return { ...plan, blocks: plan.blocks.map((block, i) => ({ ...block, mlp: { kept: at(kept, i) } })) }
}

const nextWidth = (width: number, all: number): number => Math.min(all, (Math.floor(width / unit) + 1) * unit)

/** Blocks that can be wider, the one that gains most first. */
function byGain(sorted: readonly (readonly number[])[], widths: readonly number[]): number[] {
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  const gains = sorted.map((block, index) => {
    const width = at(widths, index)
    return sum(block.slice(width, nextWidth(width, block.length))) / sum(block)
  })
  const open = [...sorted.keys()].filter((index) => at(widths, index) < at(sorted, index).length)
  return open.sort((a, b) => at(gains, b) - at(gains, a) || a - b)
}
