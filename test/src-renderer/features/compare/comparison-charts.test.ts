import { expect, test } from 'vitest'
import type { Front, WorthRow } from '#contract/comparison/worth.ts'
import {
  baselinesOf,
  modelStyle,
  modelsNote,
  modelsOf,
  shownFront,
  worthPoints,
} from '../../../../src-renderer/features/compare/comparison-charts.ts'
import type { Subject } from '../../../../src-renderer/features/compare/subjects.ts'

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

test('of several models, each has a line of its own across the chart, with the dashes of its marks', () => {
  const subject = (id: string, model: string, isDense: boolean, pinned = false) =>
    ({
      id,
      model: `${model} name`,
      baseline: pinned,
      runs: [{ model: { id: model }, baseline: isDense }],
      measures: new Map(id === 'unmeasured' ? [] : [['perplexity', { mean: 7 }]]),
    }) as unknown as Subject
  const [dense, pruned] = [subject('dense', 'a', true, true), subject('pruned', 'a', false)]
  const [other, otherPruned, unmeasured] = [subject('other', 'b', true), subject('b pruned', 'b', false), subject('unmeasured', 'b', true)]
  const all = [dense, pruned, unmeasured, other, otherPruned]
  const lines = (subjects: Subject[]) => baselinesOf(subjects, 'perplexity').map(({ id }) => id)
  expect(lines(all)).toEqual(['dense', 'other'])
  const pinned = { ...pruned, baseline: true }
  expect(lines([pinned, { ...dense, baseline: false }, other]), 'a pruned run is pinned').toEqual(['pruned'])

  const models = modelsOf(all)
  const styles = all.map((one) => modelStyle(one, models))
  expect(styles[0], 'the first model looks as if it were alone').toEqual({ dashes: '', hollow: false })
  expect([styles[1], styles[4]]).toEqual([styles[0], styles[3]])
  expect(styles[3]?.dashes).not.toBe(styles[0]?.dashes)
  expect([modelsNote(all, models), modelsNote([dense], modelsOf([dense]))]).toEqual(['Filled marks: a name; hollow: b name.', ''])
})
