import { at } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { CostLimit } from '../budget.ts'
import { ascending } from '../selection.ts'

/** How many neurons are added at once. Quantised formats hold this many without padding. */
const unit = 32

/**
 * Adds neurons to a plan with equal widths while a budget of cost leaves room. Widths grow in whole units, starting with the block whose
 * next neurons have the largest share of its scores. The remaining room is filled in the first block in that order, in steps of half a unit
 * down to one neuron.
 * @param scores of the neurons of each block, [L][I]
 */
export async function widenWithin(plan: Plan, scores: readonly number[][], { most, of: costOf }: CostLimit): Promise<Plan> {
  const ranked = scores.map((block): Ranked => ({ scores: block, order: ascending(block.map((score) => -score)) }))
  const fits = async (widths: readonly number[]) => (await costOf(withWidths(plan, ranked, widths))) <= most
  let widths = plan.blocks.map(({ mlp }) => (mlp === 'removed' ? 0 : mlp.kept.length))
  for (let before: number[] = []; before !== widths; ) {
    before = widths
    for (const block of byGain(ranked, widths)) {
      const wider = widths.with(block, nextWidth(at(widths, block), at(scores, block).length))
      if (await fits(wider)) widths = wider
    }
  }
  for (const block of byGain(ranked, widths).slice(0, 1)) {
    for (let step = unit / 2; step >= 1; step /= 2) {
      const wider = widths.with(block, Math.min(at(scores, block).length, at(widths, block) + step))
      if (await fits(wider)) widths = wider
    }
  }
  return withWidths(plan, ranked, widths)
}

interface Ranked {
  /** The scores of a block's neurons. */
  readonly scores: readonly number[]
  /** The neurons, largest score first. */
  readonly order: readonly number[]
}

function withWidths(plan: Plan, ranked: readonly Ranked[], widths: readonly number[]): Plan {
  const kept = (block: number) =>
    at(ranked, block)
      .order.slice(0, at(widths, block))
      .sort((a, b) => a - b)
  return { ...plan, blocks: plan.blocks.map((block, i) => ({ ...block, mlp: { kept: kept(i) } })) }
}

const nextWidth = (width: number, all: number): number => Math.min(all, (Math.floor(width / unit) + 1) * unit)

/** Returns the blocks that can be wider, the one that gains most first. */
function byGain(ranked: readonly Ranked[], widths: readonly number[]): number[] {
  const gains = ranked.map(({ scores, order }, index) => {
    const sum = (neurons: readonly number[]) => neurons.reduce((total, neuron) => total + at(scores, neuron), 0)
    const width = at(widths, index)
    return sum(order.slice(width, nextWidth(width, order.length))) / sum(order)
  })
  const open = [...ranked.keys()].filter((index) => at(widths, index) < at(ranked, index).order.length)
  return open.sort((a, b) => at(gains, b) - at(gains, a) || a - b)
}
