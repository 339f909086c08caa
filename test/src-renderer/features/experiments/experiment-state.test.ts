import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { ExperimentState } from '../../../../src-renderer/features/experiments/experiment-state.svelte.ts'
import { eventually } from '../../../eventually.ts'

const run = { id: 'a', name: 'dense', method: 'dense', status: 'queued', model: { id: 'm', name: 'tiny' }, parameters: {}, measures: [] }

beforeEach(() => {
  vi.stubGlobal('history', { state: null, replaceState: () => {} })
  vi.stubGlobal('location', { hash: '' })
  const answers: Record<string, () => object> = {
    'experiments.get': () => ({ id: 'e', name: 'First look', changedModels: [], counts: { queued: 1 } }),
    'experiments.grid': () => ({ models: ['m'], methods: [], amounts: [], seeds: [0] }),
    'runs.query': () => ({ rows: [run], total: 1 }),
  }
  vi.stubGlobal('fetch', async (address: string) => Response.json(answers[address.replace('/api/', '')]?.()))
})
afterEach(() => vi.unstubAllGlobals())

test('an experiment shows its runs before the titles of options are known, which its tables wait for', async () => {
  // A busy machine knows the titles after seconds. Other tests of this process may have loaded the true ones.
  const titles = Promise.withResolvers<void>()
  const page = new ExperimentState('e', () => titles.promise)
  page.refresh()
  await eventually(() => page.loaded, 'the page')
  expect(page.experiment.value?.name).toBe('First look')
  expect(page.runs.map(({ id }) => id)).toEqual(['a'])
  expect(page.titled).toBe(false)
  titles.resolve()
  await eventually(() => page.titled, 'the titles')
})

test('the playground gets the pruned runs, not answers or the dense model in another weight type', async () => {
  const rows = [
    { method: 'dense', hasPlan: true, baseline: true },
    { method: 'dense', hasPlan: true, baseline: false },
    { method: 'generation', hasPlan: false, baseline: false },
    { method: '2ssp', hasPlan: true, baseline: false },
  ].map((one, at) => ({ ...run, ...one, id: String(at), status: 'done', createdAt: at }))
  const page = new ExperimentState('e')
  page.runs = rows as unknown as typeof page.runs
  expect(page.pruned.map(({ method }) => method)).toEqual(['2ssp'])
})
