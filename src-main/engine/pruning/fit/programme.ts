import { at, outside } from '#contract/at.ts'
/** What the table says: changes of divergence by width and block, and where each block's attention goes. */
export interface DivergenceTable {
  readonly base: number
  /** Ascending. */
  readonly widths: readonly number[]
  /** [L][widths]. */
  readonly mlp: readonly (readonly number[])[]
  /** [L]; infinite where there is none to remove. */
  readonly attention: readonly number[]
}

/** How many neurons each block keeps, and the blocks whose attention goes. */
export interface FittedShape {
  readonly widths: number[]
  readonly removed: number[]
}

export interface ProgrammeLimits {
  /** Neurons in a unit of width, and the fewest that a block keeps. */
  readonly unit: number
  readonly least: number
  /** Neurons of one MLP in the dense model, and how many an attention weighs. */
  readonly width: number
  readonly attentionNeurons: number
  /** Neurons, all blocks together, that may stay when every attention does. */
  readonly budget: number
}

/** Makes a curve over ascending widths fall: a wider MLP is never worse, so what noise says otherwise is lifted from the right. */
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
 * The widths and attentions with the least sum of divergences among all that meet the budget exactly: `price` multiplies what attention
 * costs. Costs are separate, so the best removal of n attentions is of the n cheapest, and one dynamic programme over the widths, in
 * units, serves every n. Ties keep more attention. Undefined where no shape meets the budget.
 */
export function fitShape(table: DivergenceTable, limits: ProgrammeLimits, price: number): FittedShape | undefined {
  const choices = choicesOf(limits)
  const { cost, choose } = bestWidths(table, choices, limits.unit)
  const order = [...table.attention.keys()].sort((a, b) => at(table.attention, a) - at(table.attention, b) || a - b)
  let best: { cost: number; units: number; count: number } | undefined
  let attention = 0
  for (let count = 0; count <= order.length; count++) {
    if (count > 0) attention += price * at(table.attention, at(order, count - 1))
    const units = Math.min(cost.length - 1, Math.floor((limits.budget + count * limits.attentionNeurons + 1e-9) / limits.unit))
    const total = units < 0 ? Number.POSITIVE_INFINITY : at(cost, units) + attention
    if (total < (best?.cost ?? Number.POSITIVE_INFINITY)) best = { cost: total, units, count }
  }
  if (!best) return undefined
  return { widths: choose(best.units), removed: order.slice(0, best.count).sort((a, b) => a - b) }
}

/** Widths that a block may have. */
function choicesOf({ unit, least, width }: ProgrammeLimits): number[] {
  const first = Math.ceil(least / unit)
  return Array.from({ length: Math.floor(width / unit) - first + 1 }, (_, i) => (first + i) * unit)
}

/** For every number of units, the least cost of at most as many; and the widths that have it. */
function bestWidths(table: DivergenceTable, choices: readonly number[], unit: number) {
  const blocks = table.mlp.length
  const most = Math.floor((at(choices, choices.length - 1) * blocks) / unit)
  let cost = new Float64Array(most + 1)
  const chosen: Int32Array[] = []
  for (const curve of table.mlp) {
    const next = new Float64Array(most + 1).fill(Number.POSITIVE_INFINITY)
    const choice = new Int32Array(most + 1)
    const prices = choices.map((width) => valueAt(table.widths, curve, width))
    for (const [index, width] of choices.entries()) {
      const own = at(prices, index)
      for (let units = width / unit; units <= most; units++) {
        const total = (cost[units - width / unit] ?? outside(cost, units - width / unit)) + own
        if (total < (next[units] ?? outside(next, units))) {
          next[units] = total
          choice[units] = width
        }
      }
    }
    cost = next
    chosen.push(choice)
  }
  const choose = (units: number): number[] => {
    let left = units
    const widths = chosen
      .toReversed()
      .map((choice) => {
        const width = at(choice, left)
        left -= width / unit
        return width
      })
      .toReversed()
    return widths
  }
  return { cost, choose }
}
