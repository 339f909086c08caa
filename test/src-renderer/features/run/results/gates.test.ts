import { expect, test } from 'vitest'
import { heatOf } from '../../../../../src-renderer/charts/heat-grid.ts'
import { gatesNote, gatesPlot, movesMap, scoresMap } from '../../../../../src-renderer/features/run/results/gates.ts'

const steps = [
  { step: 1, divergence: 2.5, kept: [4], attentionRemoved: [0], closed: 1200, reopened: 0 },
  { step: 2, divergence: 1.25, kept: [5], attentionRemoved: [], closed: 1, reopened: 30 },
]

test('the curve has the divergence of each step', () => {
  expect(gatesPlot(steps).series[0]?.points).toEqual([
    { x: 1, y: 2.5 },
    { x: 2, y: 1.25 },
  ])
})

test('a step says how many gates it closed and reopened', () => {
  expect(gatesNote(steps[0])).toBe('Step 1: 2.500 nats per token, 1,200 gates closed and 0 gates reopened')
  expect(gatesNote(steps[1])).toBe('Step 2: 1.250 nats per token, 1 gate closed and 30 gates reopened')
  expect(gatesNote(undefined)).not.toBe('')
})

test('a step names the blocks that changed most, and attention that closed or reopened', () => {
  expect(gatesNote(steps[1], steps[0])).toMatch(/30 gates reopened; most in MLP 0 \(\+1\), attention 0 reopened$/)
})

const many = Array.from({ length: 121 }, (_, index) => ({
  step: index + 1,
  divergence: 1,
  kept: [100 - index, 50 + index, 7],
  attentionRemoved: index < 60 ? [] : [1],
  closed: 1,
  reopened: 1,
}))

test('what steps moved has a row for each block, and two steps to a column if there are many', () => {
  const { rows, columns, columnOf } = movesMap(many)
  expect([columns.length, columns[0], columns.at(-1)]).toEqual([60, 'steps 2 to 3', 'steps 120 to 121'])
  expect(rows.map(({ cells }) => cells[0]?.value)).toEqual([-2, 2, 0])
  expect(rows[0]?.cells[0]?.text).toBe('2 closed')
  const marked = rows.map(({ cells }) => cells.flatMap((cell, at) => (cell.marked ? [at] : [])))
  expect(marked).toEqual([[], [columnOf(61)], []])
  expect(rows[1]?.cells[columnOf(61)]?.text).toBe('2 reopened, attention closed')
  expect(columnOf(121)).toBe(59)
  expect(movesMap(many.slice(0, 1))).toMatchObject({ columns: [] })
})

test('scores go from strong to weak in every row, attention first, and removed gates have the other sign', () => {
  const scores = [Array.from({ length: 80 }, (_, i) => i), Array.from({ length: 80 }, (_, i) => i / 2)]
  const { rows, columns } = scoresMap({ scores, cuts: [40, 100], attention: [3, 90] }, [true, false])
  expect(columns.length).toBe(41)
  const [first, second] = rows.map(({ cells }) => cells.map(({ value }) => value))
  // The lowest 2 % of scores, 0 to 1, have no colour.
  expect([first?.[0], second?.[0]]).toEqual([-2, 89])
  expect([first?.[1], first?.[20], first?.[21], first?.[40]]).toEqual([77.5, 39.5, -37.5, -0])
  expect(rows[0]?.cells[20]?.text).toBe('score 40.50, kept')
  expect(second?.slice(1).every((value) => value <= 0)).toBe(true)
  const gaps = scoresMap({ scores, cuts: [40, 100], attention: [3, null] }, [false, false])
  expect(gaps.rows.map(({ cells }) => cells.length)).toEqual([gaps.columns.length, gaps.columns.length])
  const heat = heatOf(rows)
  expect([heat(89), heat(0)]).toEqual([1, 0])
  expect(heat(-22.25)).toBeCloseTo(0.5)
})
