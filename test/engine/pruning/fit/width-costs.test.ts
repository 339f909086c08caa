import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { type DivergenceTable, type FittedShape, fallingCurve, valueAt } from '#engine/pruning/fit/programme.ts'
import { fitWithin, shapeCosts, sumOf } from '#engine/pruning/fit/width-costs.ts'
import { PythonRandom } from '#engine/random/python-random.ts'

const limits = { unit: 2, least: 2, width: 8, attentionNeurons: 3, budget: 0 }
const widths = [2, 4, 6, 8]

function drawTable(seed: number): DivergenceTable {
  const random = new PythonRandom(seed)
  const draw = () => random.integer(0, 1000) / 1000
  const mlp = Array.from({ length: 4 }, () => fallingCurve(widths.map(draw)))
  return { base: 4, widths, mlp, attention: Array.from({ length: 4 }, draw) }
}

/** Bytes of a file whose first block has a larger type, and in which a width of 6 falls back to a larger type than its own. */
const bytesOf = ({ widths: own, removed }: FittedShape) =>
  own.reduce((sum, width, block) => sum + (block === 0 ? 1500 : 1000) * width + (width === 6 ? 2500 : 0), 12_000 - 3000 * removed.length)

const divergenceOf = ({ mlp, attention }: DivergenceTable, shape: FittedShape) =>
  shape.removed.reduce(
    (sum, block) => sum + at(attention, block),
    shape.widths.reduce((sum, width, block) => sum + valueAt(widths, at(mlp, block), width), 0),
  )

/** The least divergence of all shapes within the limit, tried one by one; attentions go cheapest first. */
function leastByTrying(table: DivergenceTable, most: number): number {
  const order = [0, 1, 2, 3].sort((a, b) => at(table.attention, a) - at(table.attention, b))
  let least = Number.POSITIVE_INFINITY
  for (let code = 0; code < 4 ** 4 * 5; code++) {
    const own = [0, 1, 2, 3].map((block) => at(widths, Math.floor(code / 4 ** block) % 4))
    const shape = { widths: own, removed: order.slice(0, Math.floor(code / 4 ** 4)) }
    if (bytesOf(shape) <= most) least = Math.min(least, divergenceOf(table, shape))
  }
  return least
}

const asPlan = (shape: FittedShape) => ({ blocks: [], shape }) as never
const asked = (most: number) => ({
  asked: '',
  text: String,
  spare: 0,
  most,
  of: async (plan: never) => bytesOf((plan as { shape: FittedShape }).shape),
})

test.each([0, 1, 2, 3, 4, 5])('finds what trying every shape finds where widths cost more than their neurons (table %i)', async (seed) => {
  const table = drawTable(seed)
  const costs = await shapeCosts(limits, 4, [true, true, true, true], async (shape) => bytesOf(shape))
  for (const most of [24_300, 30_700, 37_100]) {
    const found = await fitWithin(table, costs, asked(most) as never, asPlan)
    if (!found) throw new Error('nothing found')
    expect(bytesOf(found.shape)).toBeLessThanOrEqual(most)
    expect(found.predicted).toBe(bytesOf(found.shape))
    expect(sumOf(costs, found.shape)).toBe(found.predicted)
    expect(divergenceOf(table, found.shape)).toBeCloseTo(leastByTrying(table, most), 9)
  }
})

test('is refused where all blocks are as wide as the widest', async () => {
  const padded = async (shape: FittedShape) => 4000 * Math.max(...shape.widths)
  await expect(shapeCosts(limits, 4, [true, true, true, true], padded)).rejects.toThrow(/as wide as the widest/)
})
