import { describe, expect, test } from 'vitest'
import { type RunColumn, runFilter } from '#contract/runs/runs.ts'
import { tableColumns } from '../../../../src-renderer/features/runs/columns.ts'
import * as query from '../../../../src-renderer/features/runs/runs-query.ts'
import { formatAgo } from '../../../../src-renderer/lib/format.ts'

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
    order: ['seconds', 'model'],
    widths: { model: 12.5, 'measure:perplexity/a=b': 6 },
    groups: ['method', 'parameter:alpha'],
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

const methods = [
  { id: 'dense', title: 'Dense' },
  { id: '2ssp', title: '2SSP' },
  { id: 'gates', title: 'Gates' },
]
const names: query.ShownNames = { methods, models: new Map([['m1', 'SmolLM2']]) }

describe('conditions from what was typed', () => {
  const reached: RunColumn = { field: 'reached', label: 'Reached', kind: 'number', unit: 'share', runs: 3, minimum: 0.25, maximum: 0.5 }
  const seed: RunColumn = { field: 'seed', label: 'Seed', kind: 'number', runs: 3 }
  const method: RunColumn = { field: 'method', label: 'Method', kind: 'text', runs: 3 }
  const created: RunColumn = { field: 'createdAt', label: 'Created', kind: 'moment', runs: 3 }

  test('numbers must be numbers, a range needs two', () => {
    expect(query.parseCondition(seed, 'at most', '5', methods)).toEqual({ field: 'seed', is: 'at most', value: 5 })
    expect(query.parseCondition(seed, 'between', '2 to 5', methods)).toEqual({ field: 'seed', is: 'between', value: [2, 5] })
    expect(query.parseCondition(seed, 'between', '2', methods)).toBeNull()
    expect(query.parseCondition(seed, 'at most', 'half', methods)).toBeNull()
    expect(query.parseCondition(seed, 'at most', ' ', methods)).toBeNull()
  })

  test('shares are typed and said in percent, as the table shows them', () => {
    expect(query.parseCondition(reached, 'at most', '37.5 %', methods)).toEqual({ field: 'reached', is: 'at most', value: 0.375 })
    expect(query.describeCondition({ field: 'reached', is: 'at most', value: 0.375 }, [reached], names)).toBe('Reached ≤ 37.5 %')
    expect(query.valueHint(reached)).toEqual({ unit: '%', range: 'from 25 % to 50 %' })
  })

  test('days are typed as days: at most one means all of it, equal means within it', () => {
    const start = new Date(2026, 10, 25).getTime()
    expect(query.parseCondition(created, 'at least', '2026-11-25', methods)?.value).toBe(start)
    expect(query.parseCondition(created, 'at most', '2026-11-25', methods)?.value).toBe(start + 86_400_000 - 1)
    expect(query.parseCondition(created, 'equal', '2026-11-25', methods)).toMatchObject({
      is: 'between',
      value: [start, start + 86_399_999],
    })
    const minute = start + 10.5 * 3_600_000
    expect(query.parseCondition(created, 'equal', '2026-11-25 10:30', methods)?.value).toEqual([minute, minute + 59_999])
    expect(query.parseCondition(created, 'at least', '1764028800000', methods)).toBeNull()
    expect(query.describeCondition({ field: 'createdAt', is: 'at least', value: start }, [created], names)).toContain('25 Nov 2026')
  })

  const dayOf = (day: string) => (query.parseCondition(created, 'equal', day, methods) as { value: unknown }).value as [number, number]

  test('a day on which clocks change is all of its 23 or 25 hours, and a day that does not exist is none', () => {
    inZone('Europe/Berlin', () => {
      const hours = (day: string) => {
        const [from, to] = dayOf(day)
        expect(query.parseCondition(created, 'at most', day, methods)?.value).toBe(to)
        return (to + 1 - from) / 3_600_000
      }
      expect(['2026-03-29', '2026-07-01', '2026-10-25'].map(hours)).toEqual([23, 24, 25])
    })
    for (const none of ['2026-02-30', '2026-13-01', '2026-11-25 24:10', '2026-00-01'])
      expect(query.parseCondition(created, 'at least', none, methods)).toBeNull()
  })

  test('the day that a table shows is the day that finds its run, in every time zone', () => {
    const moment = Date.UTC(2026, 0, 2, 3, 30)
    const shown = ['America/Los_Angeles', 'UTC', 'Pacific/Kiritimati'].map((zone) =>
      inZone(zone, () => {
        const day = formatAgo(moment, moment + 100 * 86_400_000)
        const [from, to] = dayOf(day)
        return [day, from <= moment && moment <= to]
      }),
    )
    expect(shown).toEqual([
      ['2026-01-01', true],
      ['2026-01-02', true],
      ['2026-01-02', true],
    ])
  })

  test('methods and models are named as the screen names them', () => {
    expect(query.parseCondition(method, 'any of', 'Gates; 2ssp', methods)).toEqual({
      field: 'method',
      is: 'any of',
      value: ['gates', '2ssp'],
    })
    const name: RunColumn = { field: 'name', label: 'Name', kind: 'text', runs: 3 }
    expect(query.parseCondition(name, 'contains', '25 %, share', methods)?.value).toBe('25 %, share')
    expect(query.describeCondition({ field: 'method', is: 'any of', value: ['2ssp', 'gates'] }, [method], names)).toBe(
      'Method is 2SSP or Gates',
    )
    expect(query.describeCondition({ field: 'modelId', is: 'equal', value: 'm1' }, [], names)).toBe('Model = SmolLM2')
  })

  test('presence needs no value', () => {
    expect(query.parseCondition(method, 'present', '', methods)).toEqual({ field: 'method', is: 'present' })
  })
})

describe('virtual rows', () => {
  test('ask for every page that the window touches, and only those', () => {
    expect(query.pagesOf({ from: 95, to: 205 }, 100)).toEqual([0, 1, 2])
    expect(query.pagesOf({ from: 100, to: 200 }, 100)).toEqual([1])
    expect(query.pagesOf({ from: 0, to: 0 }, 100)).toEqual([])
  })
})

test('without a choice the perplexities are the first columns', () => {
  const columns = ['measure:parameters', 'measure:perplexity/x', 'parameter:alpha'].map(
    (field): RunColumn => ({ field, label: field, kind: 'number', runs: 5 }),
  )
  expect(query.defaultColumns(columns)).toEqual(['measure:perplexity/x'])
})

test('a search shows the experiments that it also searches', () => {
  const shown = (search: string, chosen: string[]) => tableColumns(chosen, [], { order: [], widths: {}, search }).map(({ field }) => field)
  expect(shown('', ['seed'])).not.toContain('experiment')
  expect(shown('half', ['seed'])).toEqual(['model', 'nominal', 'reached', 'experiment', 'seed', 'seconds', 'createdAt'])
  expect(shown('half', ['seed', 'experiment']).filter((field) => field === 'experiment')).toHaveLength(1)
})

test('measures can be added first, and nothing that is shown anyway', () => {
  const columns = ['status', 'seed', 'parameter:alpha', 'measure:perplexity/x'].map(
    (field): RunColumn => ({ field, label: field, kind: 'number', runs: 1 }),
  )
  expect(query.choosableColumns(columns).map(({ field }) => field)).toEqual(['measure:perplexity/x', 'seed', 'parameter:alpha'])
})

test('a field moves before another, or last', () => {
  expect(query.moveField(['a', 'b', 'c'], 'c', 'a')).toEqual(['c', 'a', 'b'])
  expect(query.moveField(['a', 'b', 'c'], 'a', null)).toEqual(['b', 'c', 'a'])
})

/** Does work in a time zone, such as `Europe/Berlin`. The work must not wait for anything, because others would then see the zone. */
function inZone<T>(zone: string, work: () => T): T {
  const { TZ } = process.env
  process.env.TZ = zone
  try {
    return work()
  } finally {
    if (TZ === undefined) delete process.env.TZ
    else process.env.TZ = TZ
  }
}
