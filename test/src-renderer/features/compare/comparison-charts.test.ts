import { expect, test } from 'vitest'
import type { Front, WorthRow } from '#contract/comparison/worth.ts'
import { shownFront, worthPoints } from '../../../../src-renderer/features/compare/comparison-charts.ts'

const front = (kind: string, decides: boolean): Front => ({ kind, measure: 'perplexity', decides, elsewhere: false, rows: [], apart: [] })

test('a text that decides is shown first, unless another is asked for', () => {
  const fronts = [front('c4', false), front('prose', true)]
  expect([undefined, 'c4', 'gone'].map((asked) => shownFront(fronts, asked)?.kind)).toEqual(['prose', 'c4', 'prose'])
  expect(shownFront([front('c4', false)], undefined)?.kind).toBe('c4')
})

test('pruned files have the shape of their treatment, rivals one of their own, and files without a comparable quality are left out', () => {
  const row = (name: string, pruned: boolean, quality: WorthRow['quality']) =>
    ({
      name,
      pruned,
      runs: [`${name}-id`],
      method: pruned ? '2ssp' : 'dense',
      cost: { mean: 5, error: null, factor: false },
      quality,
    }) as WorthRow
  const prose = { prose: { mean: 30, error: null, factor: true } }
  const rows = [row('dense', false, prose), row('2SSP', true, prose), row('bare', true, {})]
  const repaired: WorthRow = { ...row('repaired', true, prose), repair: 'in-order' }
  const elsewhere = row('elsewhere', true, prose)
  const shown = { kind: 'prose', apart: [{ row: elsewhere, reason: 'measured on other text' }] }
  const points = worthPoints([...rows, repaired, elsewhere], shown, (_, repair) => ({ color: 'red', shape: repair ? 'star' : 'square' }))
  expect(points.map(({ id, shape, x, y }) => [id, shape, x, y])).toEqual([
    ['dense-id', 'square', 5, 30],
    ['2SSP-id', 'circle', 5, 30],
    ['repaired-id', 'star', 5, 30],
  ])
})
