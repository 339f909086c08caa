import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { CompareState } from '../../../../src-renderer/features/compare/compare-state.svelte.ts'
import { router } from '../../../../src-renderer/lib/router.svelte.ts'
import { eventually } from '../../../eventually.ts'

/** Requests for comparisons that wait for an answer, in their order. */
let waiting: { ids: string[]; answer(): void }[]

beforeEach(() => {
  waiting = []
  vi.stubGlobal('history', { state: null, replaceState: () => {} })
  vi.stubGlobal('fetch', async (address: string, { body }: { body: string }) => {
    if (address === '/api/methods.list') return Response.json({ methods: [], ablations: [], families: [] })
    if (address !== '/api/compare.get') return Response.json({ code: 'not-found', message: 'Not here.' }, { status: 404 })
    const { ids } = JSON.parse(body) as { ids: string[] }
    const runs = ids.map((id) => ({ id, model: { id: 'm' }, parameters: {}, measures: [] }))
    return new Promise((resolve) => waiting.push({ ids, answer: () => resolve(Response.json({ baseline: null, runs })) }))
  })
})
afterEach(() => {
  router.replaceQuery({})
  vi.unstubAllGlobals()
})

const shownIds = ({ comparison }: CompareState) => comparison?.runs.map(({ id }) => id)

/** Loads the comparison of one run and then of another, neither of which is answered yet. */
async function loadTwice() {
  const compare = new CompareState()
  router.replaceQuery({ runs: 'a' })
  const first = compare.load()
  router.replaceQuery({ runs: 'b' })
  const second = compare.load()
  await eventually(() => waiting.length === 2, 'both requests')
  return { compare, first, second }
}

test('a slow answer does not replace the runs that were chosen after it', async () => {
  const { compare, first, second } = await loadTwice()
  waiting[1]?.answer()
  await second
  expect(shownIds(compare)).toEqual(['b'])
  waiting[0]?.answer()
  await first
  expect(shownIds(compare)).toEqual(['b'])
  expect(compare.busy).toBe(false)
})

test('an early answer for runs that are no longer chosen does not end the waiting', async () => {
  const { compare, first, second } = await loadTwice()
  waiting[0]?.answer()
  await first
  expect([shownIds(compare), compare.busy]).toEqual([undefined, true])
  waiting[1]?.answer()
  await second
  expect([shownIds(compare), compare.busy]).toEqual([['b'], false])
})

test('runs that a comparison cannot take are counted', async () => {
  const compare = new CompareState()
  router.replaceQuery({ runs: Array.from({ length: 503 }, (_, index) => `run-${index}`).join(',') })
  const loaded = compare.load()
  await eventually(() => waiting.length === 1, 'the request')
  waiting[0]?.answer()
  await loaded
  expect([waiting[0]?.ids.length, compare.leftOut]).toEqual([500, 3])
})

test('results are shown before the titles of options are known, which only tables wait for', async () => {
  const titles = Promise.withResolvers<void>()
  const compare = new CompareState(() => titles.promise)
  router.replaceQuery({ runs: 'a' })
  const loaded = compare.load()
  await eventually(() => waiting.length === 1, 'the request')
  waiting[0]?.answer()
  await loaded
  expect([shownIds(compare), compare.titled]).toEqual([['a'], false])
  titles.resolve()
  await eventually(() => compare.titled, 'the titles')
})

test('titles that could not be loaded are asked for again with the next runs', async () => {
  let asked = 0
  const compare = new CompareState(() => (++asked === 1 ? Promise.reject(new Error('The server is busy.')) : Promise.resolve()))
  for (const runs of ['a', 'b', 'c']) {
    router.replaceQuery({ runs })
    const loaded = compare.load()
    await eventually(() => waiting.some(({ ids }) => ids[0] === runs), 'the request')
    for (const { answer } of waiting) answer()
    await loaded
    expect(compare.titled).toBe(true)
  }
  expect(asked).toBe(2)
})
