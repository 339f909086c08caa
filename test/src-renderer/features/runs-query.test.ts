import { describe, expect, test } from 'vitest'
import { type RunColumn, runFilter } from '#contract/runs.ts'
import * as query from '../../../src-renderer/features/runs/runs-query.ts'

test('a view written into the address comes back whole', () => {
  const view: query.HistoryView = {
    search: 'half & more',
    statuses: ['done', 'failed'],
    conditions: [
      { field: 'measure:perplexity/wikitext', is: 'between', value: [10, 20] },
      { field: 'parameter:alpha', is: 'present' },
    ],
    experiment: 'exp-1',
    archived: 'only',
    sort: { field: 'measure:perplexity', direction: 'ascending' },
    columns: ['parameter:alpha', 'seed'],
  }
  const written = Object.fromEntries(
    Object.entries(query.writeView(view)).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
  expect(query.readView(written)).toEqual(view)
  expect(runFilter.parse(query.toFilter(view)).conditions).toHaveLength(3)
})

test('an untouched view leaves the address empty', () => {
  expect(Object.values(query.writeView(query.readView({}))).filter(Boolean)).toEqual([])
})

test('no columns chosen differs from columns all taken away', () => {
  expect(query.readView({}).columns).toBeNull()
  expect(query.readView({ columns: '~' }).columns).toEqual([])
})

test('a spoiled filter in the address is dropped, not thrown', () => {
  expect(query.readView({ where: '{"a":1}' }).conditions).toEqual([])
  expect(query.readView({ where: '[[1,2],["status"]]' }).conditions).toEqual([])
  expect(query.readView({ where: '[["a"' }).conditions).toEqual([])
})

describe('conditions from what was typed', () => {
  const number: RunColumn = { field: 'reached', label: 'Reached', kind: 'number', runs: 3 }
  const text: RunColumn = { field: 'method', label: 'Method', kind: 'text', runs: 3 }

  test('numbers must be numbers, a range needs two', () => {
    expect(query.parseCondition(number, 'at most', '0.5')).toEqual({ field: 'reached', is: 'at most', value: 0.5 })
    expect(query.parseCondition(number, 'between', '0.2 to 0.5')).toEqual({ field: 'reached', is: 'between', value: [0.2, 0.5] })
    expect(query.parseCondition(number, 'between', '0.2')).toBeNull()
    expect(query.parseCondition(number, 'at most', 'half')).toBeNull()
    expect(query.parseCondition(number, 'at most', ' ')).toBeNull()
  })

  test('several names make a list, presence needs no value', () => {
    expect(query.parseCondition(text, 'any of', '2ssp, shortgpt')).toEqual({ field: 'method', is: 'any of', value: ['2ssp', 'shortgpt'] })
    expect(query.parseCondition(text, 'present', '')).toEqual({ field: 'method', is: 'present' })
  })

  test('are said with the sign that people write', () => {
    expect(query.describeCondition({ field: 'reached', is: 'at most', value: 0.5 }, [number])).toBe('Reached ≤ 0.5')
    expect(query.describeCondition({ field: 'method', is: 'any of', value: ['a', 'b'] }, [text])).toBe('Method is a, b')
  })
})

describe('virtual rows', () => {
  test('ask for every page that the window touches, and only those', () => {
    expect(query.pagesOf({ from: 95, to: 205 }, 100)).toEqual([0, 1, 2])
    expect(query.pagesOf({ from: 100, to: 200 }, 100)).toEqual([1])
    expect(query.pagesOf({ from: 0, to: 0 }, 100)).toEqual([])
  })
})

test('Shift chooses all rows between, without it one row turns', () => {
  const order = ['a', 'b', 'c', undefined, 'e']
  expect(query.chooseRows(new Set(['a']), order, 4, 1)).toEqual(new Set(['a', 'b', 'c', 'e']))
  expect(query.chooseRows(new Set(['a']), order, 0, null)).toEqual(new Set())
  expect(query.chooseRows(new Set(), order, 3, null)).toEqual(new Set())
})

test('without a choice the perplexities are the first columns', () => {
  const columns = ['measure:parameters', 'measure:perplexity/x', 'parameter:alpha'].map(
    (field): RunColumn => ({ field, label: field, kind: 'number', runs: 5 }),
  )
  expect(query.defaultColumns(columns)).toEqual(['measure:perplexity/x'])
})

test('a file is taken for a run only when it says that it is one', () => {
  expect(query.readDescription('{"format":"espalier run","name":"x"}')).toMatchObject({ name: 'x' })
  for (const text of ['{"format":"espalier experiment"}', 'null', '[]', 'not json']) expect(query.readDescription(text), text).toBeNull()
})

test('measures can be added first, and nothing that is shown anyway', () => {
  const columns = ['status', 'seed', 'parameter:alpha', 'measure:perplexity/x'].map(
    (field): RunColumn => ({ field, label: field, kind: 'number', runs: 1 }),
  )
  expect(query.choosableColumns(columns).map(({ field }) => field)).toEqual(['measure:perplexity/x', 'seed', 'parameter:alpha'])
})
