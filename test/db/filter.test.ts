import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { z } from 'zod'
import { type Condition, runQuery } from '#contract/runs/runs.ts'
import { type History, openHistory } from '#db/history.ts'
import { runColumns } from '#db/runs/run-columns.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { insertRun } from './rows.ts'

let folder: string
let history: History

beforeEach(() => {
  folder = scratchOfTest('test')
  history = openHistory(folder)
  history.experiments.insert({ id: 'exp-one', name: 'Grid of one', notes: '', tags: [], grid: null, createdAt: 1 })
  const rows = [
    insertRun(history, {
      name: 'first',
      method: '2ssp',
      nominal: 0.25,
      options: { alpha: 1.5, exact: true },
      tags: ['good', 'paper'],
      experiment: 'exp-one',
    }),
    insertRun(history, {
      name: 'second',
      method: '2ssp',
      nominal: 0.5,
      options: { alpha: 3, exact: false },
      tags: ['paper'],
      notes: 'Überraschend schlecht',
    }),
    insertRun(history, { name: 'third', method: 'shortgpt', nominal: 0.5, options: { similarity: 'last token' }, status: 'failed' }),
  ]
  for (const [at, value] of [12, 40].entries())
    history.measures.add(rows[at]?.number as number, { name: 'perplexity', dataset: 'wikitext2', value, unit: '' }, 1)
  history.measures.add(rows[0]?.number as number, { name: 'accuracy', dataset: 'piqa', value: 0.7, unit: '', error: 0.01 }, 1)
})

afterEach(() => history.close())

const names = (query: z.input<typeof runQuery>) =>
  history.queries.page(runQuery.parse({ sort: [{ field: 'name' }], ...query })).rows.map(({ name }) => name)

describe('a condition keeps the runs that match it', () => {
  const cases: [Condition, string[]][] = [
    [{ field: 'method', is: 'equal', value: '2ssp' }, ['first', 'second']],
    [{ field: 'method', is: 'none of', value: ['2ssp'] }, ['third']],
    [{ field: 'status', is: 'any of', value: ['done', 'failed'] }, ['first', 'second', 'third']],
    [{ field: 'nominal', is: 'between', value: [0.2, 0.3] }, ['first']],
    [{ field: 'nominal', is: 'at least', value: 0.5 }, ['second', 'third']],
    [{ field: 'reached', is: 'absent' }, ['first', 'second', 'third']],
    [{ field: 'experiment', is: 'equal', value: 'Grid of one' }, ['first']],
    [{ field: 'experiment', is: 'none of', value: ['Grid of one'] }, ['second', 'third']],
    [{ field: 'name', is: 'contains', value: 'IR' }, ['first', 'third']],
    [{ field: 'tag', is: 'all of', value: ['good', 'paper'] }, ['first']],
    [{ field: 'tag', is: 'any of', value: ['good', 'paper'] }, ['first', 'second']],
    [{ field: 'tag', is: 'none of', value: ['good'] }, ['second', 'third']],
    [{ field: 'tag', is: 'absent' }, ['third']],
    [{ field: 'parameter:alpha', is: 'above', value: 2 }, ['second']],
    [{ field: 'parameter:alpha', is: 'absent' }, ['third']],
    [{ field: 'parameter:alpha', is: 'not equal', value: 3 }, ['first', 'third']],
    [{ field: 'parameter:exact', is: 'equal', value: true }, ['first']],
    [{ field: 'parameter:similarity', is: 'contains', value: 'token' }, ['third']],
    [{ field: 'measure:perplexity', is: 'below', value: 20 }, ['first']],
    [{ field: 'measure:perplexity/wikitext2', is: 'present' }, ['first', 'second']],
    [{ field: 'measure:perplexity/c4', is: 'present' }, []],
  ]
  test.each(
    cases.map(([condition, expected]) => ({
      condition,
      expected,
      title: `${condition.field} ${condition.is} ${JSON.stringify(condition.value)}`,
    })),
  )('$title', ({ condition, expected }) => {
    expect(names({ conditions: [condition] })).toEqual(expected)
  })
})

test('an unknown filter is refused with a list of the fields', () => {
  expect(() => names({ conditions: [{ field: 'colour', is: 'equal', value: 1 }] })).toThrow(/no field "colour".*parameter:NAME/)
  expect(() => names({ conditions: [{ field: 'constructor', is: 'equal', value: 1 }] })).toThrow(/no field/)
  expect(() => names({ conditions: [{ field: 'nominal', is: 'between', value: [1] }] })).toThrow(/cannot be used/)
  expect(() => names({ conditions: [{ field: 'nominal', is: 'equal' }] })).toThrow(/cannot be used/)
  expect(() => names({ sort: [{ field: 'r.name; DROP TABLE runs --' }] })).toThrow(/no field/)
})

test('names that look like SQL are only names', () => {
  const hostile = "x') OR 1=1 --"
  expect(names({ conditions: [{ field: `parameter:${hostile}`, is: 'present' }] })).toEqual([])
  expect(names({ conditions: [{ field: 'name', is: 'equal', value: hostile }] })).toEqual([])
  expect(names({ search: hostile })).toEqual([])
  expect(names({ search: '" OR name:* NEAR(' })).toEqual([])
})

test('words are found at their beginning, without accents, in notes, tags and names', () => {
  expect(names({ search: 'uberra' })).toEqual(['second'])
  expect(names({ search: 'PAPER 2ssp' })).toEqual(['first', 'second'])
  expect(names({ search: 'grid tiny' })).toEqual(['first'])
  expect(names({ search: '!!!' })).toEqual(['first', 'second', 'third'])
})

test('sorting puts runs without a value last in both directions', () => {
  const sorted = (direction: 'ascending' | 'descending') => names({ sort: [{ field: 'measure:perplexity/wikitext2', direction }] })
  expect(sorted('ascending')).toEqual(['first', 'second', 'third'])
  expect(sorted('descending')).toEqual(['second', 'first', 'third'])
})

test('a renamed model, experiment or run is found by its new name only', () => {
  const [model] = history.models.list()
  history.models.patch(model?.id as string, { name: 'Gigantic' })
  history.experiments.patch('exp-one', { name: 'Renamed' })
  expect(names({ search: 'gigantic' }).length).toBe(3)
  expect(names({ search: 'tiny' })).toEqual([])
  expect(names({ search: 'renamed' })).toEqual(['first'])
})

test('archived runs of the filter are counted, whether the page shows them or not', () => {
  const [second] = history.queries.numbers(runQuery.parse({ sort: [{ field: 'name' }] }), 1, 1)
  history.runs.patch(second as number, { archived_at: 5 })
  for (const archived of ['no', 'only', 'all'] as const) expect(history.queries.page(runQuery.parse({ archived })).archived).toBe(1)
  expect(history.queries.page(runQuery.parse({ conditions: [{ field: 'method', is: 'equal', value: 'shortgpt' }] }))).toMatchObject({
    total: 1,
    archived: 0,
  })
})

test('the window, the total and the counts belong together', () => {
  const page = history.queries.page(runQuery.parse({ sort: [{ field: 'name' }], offset: 1, limit: 1 }))
  expect(page).toMatchObject({ total: 3, counts: { done: 2, failed: 1 }, rows: [{ name: 'second' }] })
})

test('only the requested parameters and measures are returned', () => {
  const [row] = history.queries.page(
    runQuery.parse({ sort: [{ field: 'name' }], columns: ['parameter:alpha', 'measure:accuracy/piqa'] }),
  ).rows
  expect(row?.parameters).toEqual({ alpha: 1.5 })
  expect(row?.measures).toEqual([{ name: 'accuracy', dataset: 'piqa', value: 0.7, best: 0.7, unit: '', error: 0.01 }])
})

test('columns state their kind, range and values', () => {
  const columns = new Map(runColumns(history.db, runQuery.parse({})).map((column) => [column.field, column]))
  expect(columns.get('parameter:alpha')).toMatchObject({ kind: 'number', runs: 2, minimum: 1.5, maximum: 3 })
  expect(columns.get('parameter:exact')).toMatchObject({ kind: 'boolean', runs: 2 })
  expect(columns.get('measure:perplexity/wikitext2')).toMatchObject({ kind: 'number', runs: 2, minimum: 12, maximum: 40 })
  expect(columns.get('method')?.values?.toSorted()).toEqual(['2ssp', 'shortgpt'])
  expect(columns.get('tag')?.values?.toSorted()).toEqual(['good', 'paper'])
  const filtered = runColumns(history.db, runQuery.parse({ conditions: [{ field: 'method', is: 'equal', value: 'shortgpt' }] }))
  expect(filtered.some(({ field }) => field === 'parameter:alpha')).toBe(false)
})

test('a measure keeps its last and its best value, and knows which way is better', () => {
  const { number } = insertRun(history, { name: 'fourth' })
  for (const value of [30, 20, 25]) history.measures.add(number, { name: 'perplexity', dataset: 'c4', value, unit: '' }, 1)
  for (const value of [0.3, 0.6, 0.5]) history.measures.add(number, { name: 'accuracy', dataset: 'piqa', value, unit: '' }, 1)
  expect(
    history.measures
      .ofRuns([number])
      .get(number)
      ?.map(({ value, best }) => [value, best])
      .toSorted(),
  ).toEqual([
    [0.5, 0.6],
    [25, 20],
  ])
})
