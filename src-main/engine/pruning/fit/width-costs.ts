import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import type { CostLimit } from '../budget.ts'
import { type DivergenceTable, type FittedShape, fitShape, type Programme, type ProgrammeLimits, widthChoices } from './programme.ts'

/** Units that the range of costs is divided into. Each block's cost is rounded up to a whole unit. */
const resolution = 2 ** 14
/** The most rounds that correct a shape by its real cost. */
const rounds = 6
/** A real cost this far below the limit, as a share of the limit, is close enough. */
const near = 0.002
/**
 * How closely costs must add up. The savings of single blocks must sum to at least this share of the saving of narrowing all blocks.
 * Widening all blocks must cost at least this share of the sum for single blocks.
 */
const additive = 0.8

export interface ShapeCosts {
  /** [L][choices]: how the cost changes if one block has that width instead of the base width. */
  readonly widths: readonly (readonly number[])[]
  /** [L]: the cost that removing the attention of a block saves. */
  readonly attention: readonly number[]
  /** The cost of the base shape: the same width in every block, and all attention. */
  readonly base: number
  /** Widths that a block may have. */
  readonly choices: readonly number[]
}

type CostOf = (shape: FittedShape) => Promise<number>

/**
 * Looks up the cost of every width of every block, around the base shape. `hasAttention` says which blocks have attention. Blocks whose costs
 * agree at the narrowest and the widest width are assumed to agree at all widths, so only one of them is looked up. Throws `infeasible` if
 * narrowing a single block saves little because the others stay wide.
 */
export async function shapeCosts(
  limits: ProgrammeLimits,
  base: number,
  hasAttention: readonly boolean[],
  costOf: CostOf,
): Promise<ShapeCosts> {
  const blocks = hasAttention.length
  const choices = widthChoices(limits)
  const withWidth = (block: number, width: number) => Array.from({ length: blocks }, (_, index) => (index === block ? width : base))
  const baseCost = await costOf({ widths: withWidth(-1, base), removed: [] })
  const changeAt = async (block: number, width: number) => (await costOf({ widths: withWidth(block, width), removed: [] })) - baseCost
  const known = new Map<string, Promise<number[]>>()
  const widths: number[][] = []
  const attention: number[] = []
  for (const [block, present] of hasAttention.entries()) {
    const kind = `${await changeAt(block, at(choices, 0))} ${await changeAt(block, at(choices, choices.length - 1))}`
    const changes = known.get(kind) ?? inOrder(choices, (width) => changeAt(block, width))
    known.set(kind, changes)
    widths.push(await changes)
    attention.push(present ? baseCost - (await costOf({ widths: withWidth(-1, base), removed: [block] })) : 0)
  }
  const narrowest = await costOf({ widths: Array.from({ length: blocks }, () => at(choices, 0)), removed: [] })
  const single = widths.reduce((sum, own) => sum - at(own, 0), 0)
  const widest = widths.reduce((sum, own) => sum + at(own, own.length - 1), 0)
  const full = await costOf({ widths: Array.from({ length: blocks }, () => at(choices, choices.length - 1)), removed: [] })
  if (single < additive * (baseCost - narrowest) || widest * additive > full - baseCost) throw sharedWidth()
  return { widths, attention, base: baseCost, choices }
}

async function inOrder(choices: readonly number[], change: (width: number) => Promise<number>): Promise<number[]> {
  const changes: number[] = []
  for (const width of choices) changes.push(await change(width))
  return changes
}

const sharedWidth = () =>
  new EspalierError(
    'infeasible',
    'This format stores all blocks as wide as the widest one, so fitted widths save nothing. Choose another format or method.',
  )

/** Returns the cost of a shape, assuming that the costs of widths and removed attention add up. */
export function sumOf({ widths, attention, base, choices }: ShapeCosts, shape: FittedShape): number {
  const saved = shape.removed.reduce((sum, block) => sum + at(attention, block), 0)
  return shape.widths.reduce((sum, width, block) => sum + at(at(widths, block), choices.indexOf(width)), base - saved)
}

/** Returns the programme for a limit on cost. */
export function inCosts({ widths, attention, base, choices }: ShapeCosts, limit: number): Programme {
  const lowest = widths.map((own) => Math.min(...own))
  const range = widths.reduce((sum, own, block) => sum + Math.max(...own) - at(lowest, block), 0)
  const unit = range / resolution
  const floor = lowest.reduce((sum, own) => sum + own, base)
  return {
    choices,
    costs: widths.map((own, block) => own.map((cost) => Math.ceil((cost - at(lowest, block)) / unit - 1e-9))),
    room: (removed) => Math.floor((limit - floor + removed.reduce((sum, block) => sum + at(attention, block), 0)) / unit),
  }
}

/**
 * Finds a shape of low divergence whose real cost is just within the limit. Each round picks a shape by the sum of costs, looks up its real
 * cost and moves its target by the difference. The most expensive shape that fits wins. Returns undefined if none fits.
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
