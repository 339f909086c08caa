import { expect, test } from 'vitest'
import { linePath, linesWithin, type ParallelLine, placeDimensions, tidyBrush } from '../../../src-renderer/charts/parallel.ts'

const box = { left: 0, right: 200, top: 0, bottom: 100 }
const dimensions = [
  { id: 'method', title: 'method', kind: 'text' as const },
  { id: 'perplexity', title: 'perplexity', kind: 'number' as const },
]
const lines: ParallelLine[] = [
  { id: 'a', label: 'a', color: '', values: { method: '2SSP', perplexity: 10 } },
  { id: 'b', label: 'b', color: '', values: { method: 'ShortGPT', perplexity: 90 } },
  { id: 'c', label: 'c', color: '', values: { method: '2SSP', perplexity: null } },
]
const placed = placeDimensions(dimensions, lines, box)

test('axes spread over the width, names evenly over an axis', () => {
  expect(placed.map(({ x }) => x)).toEqual([0, 200])
  expect(placed[0]?.ticks).toEqual([
    { at: 0, label: '2SSP' },
    { at: 100, label: 'ShortGPT' },
  ])
})

test('a brush keeps the lines that pass through it, and none without a value there', () => {
  expect(linesWithin(lines, placed, {})).toEqual(new Set(['a', 'b', 'c']))
  expect(linesWithin(lines, placed, { perplexity: { from: 50, to: 100 } })).toEqual(new Set(['a']))
  expect(linesWithin(lines, placed, { method: { from: 0, to: 10 }, perplexity: { from: 0, to: 50 } })).toEqual(new Set())
})

test('a brush drawn upwards is the same, and a click is none', () => {
  expect(tidyBrush(80, 20, box)).toEqual({ from: 20, to: 80 })
  expect(tidyBrush(80, 300, box)).toEqual({ from: 80, to: 100 })
  expect(tidyBrush(50, 51, box)).toBeNull()
})

test('a missing value breaks the line', () => {
  expect(linePath(lines[2] as ParallelLine, placed)).toBe('M0.0 0.0')
})
