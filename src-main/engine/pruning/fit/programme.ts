import { at, outside } from '#contract/at.ts'
import type { BlockPlan, Plan } from '#contract/pruning/plan.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { attentionOf } from '#engine/model/weights/weights.ts'
import { densePlan, removeParts } from '../plan.ts'
import { ascending } from '../selection.ts'

/**
 * The measured table for L blocks: how much the divergence from the dense model rises, in nats per token, compared with a model whose MLPs
 * all have the base width.
 */
export interface DivergenceTable {
  /** Neurons of every MLP in the model that changes are measured against. */
  readonly base: number
  /** The measured widths, ascending. */
  readonly widths: readonly number[]
  /** [L][widths]: the change when one MLP has another width. */
  readonly mlp: readonly (readonly number[])[]
  /** [L]: the change when the attention of a block is removed. Infinite for a block that has none. */
  readonly attention: readonly number[]
}

/** What each block keeps. */
export interface FittedShape {
  /** Neurons, [L]. */
  readonly widths: number[]
  /** Blocks whose attention is removed, ascending. */
  readonly removed: number[]
}

export interface ProgrammeLimits {
  /** Widths are multiples of this many neurons. */
  readonly unit: number
  /** The fewest neurons that a block keeps. */
  readonly least: number
  /** Neurons of one MLP in the dense model. */
  readonly width: number
  /** Neurons with as many parameters as one attention submodule. */
  readonly attentionNeurons: number
  /** Neurons that all blocks together may keep if all attention stays. */
  readonly budget: number
}

/** The costs of widths and the limit on them, in whole units. */
export interface Programme {
  /** Widths that a block may have. */
  readonly choices: readonly number[]
  /** The cost of each choice in each block, [L][choices]. */
  readonly costs: readonly (readonly number[])[]
  /** Returns the units available for all widths together if the attention of these blocks is removed. */
  room(removed: readonly number[]): number
}

/** Returns the programme for a budget of neurons, in which a width costs its neurons. */
export function inNeurons({ unit, least, width, budget, attentionNeurons }: ProgrammeLimits, blocks: number): Programme {
  const choices = widthChoices({ unit, least, width })
  const costs = choices.map((neurons) => neurons / unit)
  return {
    choices,
    costs: Array.from({ length: blocks }, () => costs),
    room: ({ length }) => Math.floor((budget + length * attentionNeurons + 1e-9) / unit),
  }
}

/**
 * Returns a curve over ascending widths that never rises. A wider MLP is never worse, so a rise is noise, and the values of narrower widths
 * are raised to remove it.
 */
export function fallingCurve(values: readonly number[]): number[] {
  const curve = [...values]
  for (let i = curve.length - 2; i >= 0; i--) curve[i] = Math.max(at(curve, i), at(curve, i + 1))
  return curve
}

/** Returns the value of a curve at a width, linear between its points and flat beyond them. */
export function valueAt(widths: readonly number[], values: readonly number[], width: number): number {
  const next = widths.findIndex((point) => point >= width)
  if (next < 0) return at(values, values.length - 1)
  if (next === 0) return at(values, 0)
  const [low, high] = [at(widths, next - 1), at(widths, next)]
  const share = (width - low) / (high - low)
  return (1 - share) * at(values, next - 1) + share * at(values, next)
}

/**
 * Returns the widths and the removed attention with the lowest sum of divergences within the budget, or undefined if no shape fits. All
 * attention submodules have about the same size, so removing n of them means removing the n with the lowest divergence. The best widths are
 * computed once for every number of units and looked up for every n. Ties keep more attention.
 */
export function fitShape(table: DivergenceTable, programme: Programme): FittedShape | undefined {
  const { cost, choose } = bestWidths(table, programme)
  const order = ascending(table.attention)
  let best: { cost: number; units: number; count: number } | undefined
  let attention = 0
  for (let count = 0; count <= order.length; count++) {
    if (count > 0) attention += at(table.attention, at(order, count - 1))
    const units = Math.min(cost.length - 1, programme.room(order.slice(0, count)))
    const total = units < 0 ? Number.POSITIVE_INFINITY : at(cost, units) + attention
    if (total < (best?.cost ?? Number.POSITIVE_INFINITY)) best = { cost: total, units, count }
  }
  if (!best) return undefined
  return { widths: choose(best.units), removed: order.slice(0, best.count).sort((a, b) => a - b) }
}

/** Returns the widths that a block may have, ascending. */
export function widthChoices({ unit, least, width }: Pick<ProgrammeLimits, 'unit' | 'least' | 'width'>): number[] {
  const first = Math.ceil(least / unit)
  return Array.from({ length: Math.floor(width / unit) - first + 1 }, (_, i) => (first + i) * unit)
}

/**
 * Finds, for every number of units, the lowest sum of divergences of widths that cost at most that much, by dynamic programming over the
 * blocks. `choose` returns the widths for a number of units.
 */
function bestWidths(table: DivergenceTable, { choices, costs }: Programme) {
  const most = costs.reduce((sum, own) => sum + Math.max(...own), 0)
  let cost = new Float64Array(most + 1)
  const chosen: Int32Array[] = []
  for (const [block, curve] of table.mlp.entries()) {
    const next = new Float64Array(most + 1).fill(Number.POSITIVE_INFINITY)
    const choice = new Int32Array(most + 1).fill(-1)
    const sizes = at(costs, block)
    for (const [index, width] of choices.entries()) {
      const divergence = valueAt(table.widths, curve, width)
      const size = at(sizes, index)
      for (let units = size; units <= most; units++) {
        const total = (cost[units - size] ?? outside(cost, units - size)) + divergence
        if (total < (next[units] ?? outside(next, units))) {
          next[units] = total
          choice[units] = index
        }
      }
    }
    cost = next
    chosen.push(choice)
  }
  const choose = (units: number): number[] => {
    let remaining = units
    const indices = chosen.toReversed().map((choice, back) => {
      const index = at(choice, remaining)
      remaining -= at(at(costs, chosen.length - 1 - back), index)
      return index
    })
    return indices.toReversed().map((index) => at(choices, index))
  }
  return { cost, choose }
}

/** The widths of the table, and which neurons each of them keeps. */
export interface WidthPoints {
  /** Neurons of each block by descending score. A width keeps the first ones. */
  readonly orders: readonly (readonly number[])[]
  /** The width that all MLPs have while the table is measured. */
  readonly base: number
  readonly widths: readonly number[]
}

/** Returns the neurons that a block keeps at a width, in index order. */
export const keptAt = ({ orders }: WidthPoints, block: number, width: number): number[] =>
  at(orders, block)
    .slice(0, width)
    .sort((a, b) => a - b)

/** Returns the plan for a shape. */
export function planOf(spec: DecoderSpec, points: WidthPoints, { widths, removed }: FittedShape): Plan {
  const blocks = densePlan(spec).blocks.map(
    (block, index): BlockPlan => ({ ...block, mlp: { kept: keptAt(points, index, at(widths, index)) } }),
  )
  return removeParts({ blocks }, removed.map(attentionOf))
}
