import { at, outside } from '#contract/at.ts'
import { ascending } from '../selection.ts'

/** The measured table: changes of divergence by width and block, and for removing each block's attention. */
export interface DivergenceTable {
  readonly base: number
  /** Ascending. */
  readonly widths: readonly number[]
  /** [L][widths]. */
  readonly mlp: readonly (readonly number[])[]
  /** [L]; infinite without an attention to remove. */
  readonly attention: readonly number[]
}

/** The neurons that each block keeps, and the blocks whose attention is removed. */
export interface FittedShape {
  readonly widths: number[]
  readonly removed: number[]
}

export interface ProgrammeLimits {
  /** Neurons in a unit of width, and the fewest that a block keeps. */
  readonly unit: number
  readonly least: number
  /** Neurons of one MLP in the dense model, and the number that an attention is worth. */
  readonly width: number
  readonly attentionNeurons: number
  /** Neurons that all blocks together may keep if every attention stays. */
  readonly budget: number
}

/** The costs of shapes, in whole units. */
export interface Programme {
  /** Widths that a block may have, and the cost of each in each block, [L][choices]. */
  readonly choices: readonly number[]
  readonly costs: readonly (readonly number[])[]
  /** Units available for all widths if these attentions are removed. */
  room(removed: readonly number[]): number
}

/** The programme under a budget of neurons: a width costs its neurons. */
export function inNeurons({ unit, least, width, budget, attentionNeurons }: ProgrammeLimits, blocks: number): Programme {
  const choices = widthChoices({ unit, least, width })
  const own = choices.map((neurons) => neurons / unit)
  return {
    choices,
    costs: Array.from({ length: blocks }, () => own),
    room: ({ length }) => Math.floor((budget + length * attentionNeurons + 1e-9) / unit),
  }
}

/** Makes a curve over ascending widths fall. A wider MLP is never worse, so a rise is noise: the narrower widths are raised to it. */
export function fallingCurve(values: readonly number[]): number[] {
  const curve = [...values]
  for (let i = curve.length - 2; i >= 0; i--) curve[i] = Math.max(at(curve, i), at(curve, i + 1))
  return curve
}

/** The value of a curve at a width, linear between its points and flat beyond them. */
export function valueAt(widths: readonly number[], values: readonly number[], width: number): number {
  const after = widths.findIndex((point) => point >= width)
  if (after < 0) return at(values, values.length - 1)
  if (after === 0) return at(values, 0)
  const [low, high] = [at(widths, after - 1), at(widths, after)]
  const share = (width - low) / (high - low)
  return (1 - share) * at(values, after - 1) + share * at(values, after)
}

/**
 * The widths and attentions with the lowest sum of divergences within the budget. Attentions are about equal in size, so removing n means
 * the n cheapest, and one dynamic programme over the widths, in units, serves every n. Ties keep more attention. Undefined if no shape
 * fits.
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

/** Widths that a block may have. */
export function widthChoices({ unit, least, width }: Pick<ProgrammeLimits, 'unit' | 'least' | 'width'>): number[] {
  const first = Math.ceil(least / unit)
  return Array.from({ length: Math.floor(width / unit) - first + 1 }, (_, i) => (first + i) * unit)
}

/** For every number of units, the lowest divergence of widths that cost at most that much, and those widths. */
function bestWidths(table: DivergenceTable, { choices, costs }: Programme) {
  const most = costs.reduce((sum, own) => sum + Math.max(...own), 0)
  let cost = new Float64Array(most + 1)
  const chosen: Int32Array[] = []
  for (const [block, curve] of table.mlp.entries()) {
    const next = new Float64Array(most + 1).fill(Number.POSITIVE_INFINITY)
    const choice = new Int32Array(most + 1).fill(-1)
    const own = at(costs, block)
    for (const [index, width] of choices.entries()) {
      const divergence = valueAt(table.widths, curve, width)
      const size = at(own, index)
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
    let left = units
    const indices = chosen.toReversed().map((choice, back) => {
      const index = at(choice, left)
      left -= at(at(costs, chosen.length - 1 - back), index)
      return index
    })
    return indices.toReversed().map((index) => at(choices, index))
  }
  return { cost, choose }
}
