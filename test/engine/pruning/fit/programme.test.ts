import { describe, expect, test } from 'vitest'
import { type DivergenceTable, fallingCurve, fitShape, inNeurons, type ProgrammeLimits, valueAt } from '#engine/pruning/fit/programme.ts'
import { PythonRandom } from '#engine/random/python-random.ts'

const limits: ProgrammeLimits = { unit: 2, least: 2, width: 8, attentionNeurons: 3, budget: 13 }

function drawTable(seed: number): DivergenceTable {
  const random = new PythonRandom(seed)
  const draw = () => random.integer(0, 1000) / 1000
  return {
    base: 4,
    widths: [2, 4, 6, 8],
    mlp: Array.from({ length: 4 }, () => fallingCurve([draw(), draw(), draw(), draw()])),
    attention: Array.from({ length: 4 }, draw),
  }
}

/** Every shape there is, tried one by one. */
function cheapestByTrying(table: DivergenceTable): number {
  let best = Number.POSITIVE_INFINITY
  const widths = [2, 4, 6, 8]
  for (let code = 0; code < 4 ** 4 * 2 ** 4; code++) {
    const shape = table.mlp.map((_, block) => widths[Math.floor(code / 4 ** block) % 4] as number)
    const gone = table.attention.map((_, block) => Math.floor(code / 4 ** 4 / 2 ** block) % 2 === 1)
    const room = limits.budget + limits.attentionNeurons * gone.filter(Boolean).length
    if (shape.reduce((sum, width) => sum + width, 0) > room) continue
    best = Math.min(
      best,
      costOf(
        table,
        shape,
        gone.flatMap((yes, block) => (yes ? [block] : [])),
      ),
    )
  }
  return best
}

function costOf({ widths, mlp, attention }: DivergenceTable, shape: readonly number[], removed: readonly number[]): number {
  const own = shape.reduce((sum, width, block) => sum + valueAt(widths, mlp[block] ?? [], width), 0)
  return removed.reduce((sum, block) => sum + (attention[block] ?? 0), own)
}

describe('the programme', () => {
  test.each(Array.from({ length: 12 }, (_, seed) => seed))('finds what trying every shape finds (table %i)', (seed) => {
    const table = drawTable(seed)
    const shape = fitShape(table, inNeurons(limits, 4))
    if (!shape) throw new Error('nothing found')
    const room = limits.budget + limits.attentionNeurons * shape.removed.length
    expect(shape.widths.reduce((sum, width) => sum + width, 0)).toBeLessThanOrEqual(room)
    expect(costOf(table, shape.widths, shape.removed)).toBeCloseTo(cheapestByTrying(table), 9)
  })

  test('takes away no attention that has none', () => {
    const table = { ...drawTable(1), attention: [0, Number.POSITIVE_INFINITY, 0, Number.POSITIVE_INFINITY] }
    expect(fitShape(table, inNeurons({ ...limits, budget: 8 }, 4))?.removed).not.toContain(1)
  })

  test('finds nothing where even the narrowest is too wide', () => {
    expect(fitShape(drawTable(1), inNeurons({ ...limits, budget: -20 }, 4))).toBeUndefined()
  })
})

test('a curve that rises by noise is lifted from the right, and read between its points', () => {
  expect(fallingCurve([3, 1, 2, 0])).toEqual([3, 2, 2, 0])
  expect(valueAt([2, 4, 8], [3, 2, 0], 6)).toBe(1)
  expect(valueAt([2, 4, 8], [3, 2, 0], 1)).toBe(3)
  expect(valueAt([2, 4, 8], [3, 2, 0], 9)).toBe(0)
})
