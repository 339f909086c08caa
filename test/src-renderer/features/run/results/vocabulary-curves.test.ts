import { expect, test } from 'vitest'
import { coveragePlot, coverageRows, piecesOf } from '../../../../../src-renderer/features/run/results/vocabulary-curves.ts'

const ranking = {
  texts: [
    { name: 'ranking text', tokens: 100 },
    { name: 'German', tokens: 50 },
    { name: 'Greek', tokens: 50 },
  ],
  points: [
    { rows: 100, bytes: 60, covered: [0.9, 0.4, 0.5] },
    { rows: 1000, bytes: 120, covered: [1, 1, 1] },
  ],
  samples: [],
}

test('the plot has a line for each chosen text, and the size as a share of the whole model', () => {
  const { series } = coveragePlot(ranking, ['German'])
  expect(series.map(({ name, points }) => [name, points])).toEqual([
    [
      'German',
      [
        { x: 100, y: 40 },
        { x: 1000, y: 100 },
      ],
    ],
    [
      'size of the model',
      [
        { x: 100, y: 50 },
        { x: 1000, y: 100 },
      ],
    ],
  ])
})

test('the best covered language comes first, after the text that ranked the rows', () => {
  expect(coverageRows(ranking, 0).map(({ name }) => name)).toEqual(['ranking text', 'Greek', 'German'])
})

test('a sample is cut where tokens end, and a character in several tokens stays one piece', () => {
  const sample = {
    text: 'ab€c',
    ends: [
      [2, 4],
      [1, 2, 2, 2, 3, 4],
      [1, 2, 3, 3, 3, 4],
    ],
  }
  const cut = (point: number) => piecesOf(sample, point).map(({ text, tokens }) => `${text}${tokens}`)
  expect(cut(0)).toEqual(['ab1', '€c1'])
  expect(cut(1).join('')).toContain('€')
  expect(cut(2)).toEqual(['a1', 'b1', '€3', 'c1'])
  expect(piecesOf(sample, 1).reduce((sum, { tokens }) => sum + tokens, 0)).toBe(6)
})
