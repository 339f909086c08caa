import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { CostLimit } from '../budget.ts'
import { type DivergenceTable, type FittedShape, fitShape, type Programme, type ProgrammeLimits, widthChoices } from './programme.ts'

/** Units that the range of costs is divided into. Each block's cost is rounded up to a whole unit. */
const resolution = 2 ** 14
/** Most rounds of correcting a shape by its real cost, and how far below the limit (as a share of it) counts as close enough. */
const [rounds, near] = [6, 0.002]
/** Share of the sum of single savings that saving everywhere must reach. For widening, the reverse. */
const additive = 0.8

export interface ShapeCosts {
  /** [L][choices]; the cost that a block's width adds to the base shape, or saves from it. */
  readonly widths: readonly (readonly number[])[]
  /** [L]; the cost that removing an attention saves. */
  readonly attention: readonly number[]
  readonly base: number
  readonly choices: readonly number[]
}

type CostOf = (shape: FittedShape) => Promise<number>

/**
 * The cost of every width of every block, around the base shape. Blocks that cost the same at two widths cost the same at all, so only one
 * of them is asked about. Throws `infeasible` if narrower blocks save little because others stay wide.
 */
export async function shapeCosts(
  limits: ProgrammeLimits,
  base: number,
  attentions: readonly boolean[],
  costOf: CostOf,
): Promise<ShapeCosts> {
  const blocks = attentions.length
  const choices = widthChoices(limits)
  const withWidth = (block: number, width: number) => Array.from({ length: blocks }, (_, own) => (own === block ? width : base))
  const whole = await costOf({ widths: withWidth(-1, base), removed: [] })
  const changeAt = async (block: number, width: number) => (await costOf({ widths: withWidth(block, width), removed: [] })) - whole
  const known = new Map<string, Promise<number[]>>()
  const widths: number[][] = []
  const attention: number[] = []
  for (const [block, hasAttention] of attentions.entries()) {
    const kind = `${await changeAt(block, at(choices, 0))} ${await changeAt(block, at(choices, choices.length - 1))}`
    const own = known.get(kind) ?? inOrder(choices, (width) => changeAt(block, width))
    known.set(kind, own)
    widths.push(await own)
    attention.push(hasAttention ? whole - (await costOf({ widths: withWidth(-1, base), removed: [block] })) : 0)
  }
  const narrowest = await costOf({ widths: Array.from({ length: blocks }, () => at(choices, 0)), removed: [] })
  const single = widths.reduce((sum, own) => sum - at(own, 0), 0)
  const widest = widths.reduce((sum, own) => sum + at(own, own.length - 1), 0)
  const full = await costOf({ widths: Array.from({ length: blocks }, () => at(choices, choices.length - 1)), removed: [] })
  if (single < additive * (whole - narrowest) || widest * additive > full - whole) throw sharedWidth()
  return { widths, attention, base: whole, choices }
}

async function inOrder(choices: readonly number[], change: (width: number) => Promise<number>): Promise<number[]> {
  const changes: number[] = []
  for (const width of choices) changes.push(await change(width))
  return changes
}

const sharedWidth = () =>
  new EspalierError(
    'infeasible',
    'A file of this kind makes all blocks as wide as the widest, so fitted widths save nothing. Choose another format or method.',
  )

/** The cost of a shape if the costs of single widths and attentions add up. */
export function sumOf({ widths, attention, base, choices }: ShapeCosts, shape: FittedShape): number {
  const saved = shape.removed.reduce((sum, block) => sum + at(attention, block), 0)
  return shape.widths.reduce((sum, width, block) => sum + at(at(widths, block), choices.indexOf(width)), base - saved)
}

/** The programme under a limit on cost. */
export function inCosts({ widths, attention, base, choices }: ShapeCosts, most: number): Programme {
  const least = widths.map((own) => Math.min(...own))
  const range = widths.reduce((sum, own, block) => sum + Math.max(...own) - at(least, block), 0)
  const unit = range / resolution
  const floor = least.reduce((sum, own) => sum + own, base)
  return {
    choices,
    costs: widths.map((own, block) => own.map((cost) => Math.ceil((cost - at(least, block)) / unit - 1e-9))),
    room: (removed) => Math.floor((most - floor + removed.reduce((sum, block) => sum + at(attention, block), 0)) / unit),
  }
}

/**
 * Finds a shape of low divergence whose real cost is just within the limit. Shapes are chosen by the sum of costs. Each round corrects its
 * limit by the real cost, and the most expensive shape that fits wins.
 */
export async function fitWithin(
  table: DivergenceTable,
  costs: ShapeCosts,
  { most, of }: CostLimit,
  planOf: (shape: FittedShape) => Plan,
): Promise<{ shape: FittedShape; predicted: number } | undefined> {
  let best: { shape: FittedShape; predicted: number; real: number } | undefined
  let target = most
  for (let round = 0; round < rounds; round++) {
    const shape = fitShape(table, inCosts(costs, target))
    if (!shape) break
    const real = await of(planOf(shape))
    if (real <= most && real > (best?.real ?? 0)) best = { shape, predicted: sumOf(costs, shape), real }
    if (real <= most && real >= (1 - near) * most) break
    target += most - real
  }
  return best
}
