import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Transfer } from '#contract/models/models.ts'
import { type History, openHistory } from '#db/history.ts'
import { describedModel } from '../fixtures/described-model.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { insertRun } from './rows.ts'

let folder: string
let history: History

beforeEach(() => {
  folder = scratchOfTest('test')
  history = openHistory(folder)
})
afterEach(() => history.close())

const transfer = (id: string, status: Transfer['status']): Transfer => ({
  id,
  kind: 'download',
  name: id,
  status,
  doneBytes: 0,
  totalBytes: null,
  bytesPerSecond: null,
  secondsLeft: null,
  model: null,
  problem: null,
})

test('old transfers that have ended are forgotten, and an old paused download is still found', () => {
  const { transfers } = history
  transfers.save(transfer('paused', 'paused'), { repository: 'a/b' }, 'owner', 0)
  for (let at = 1; at <= 150; at++) transfers.save(transfer(`done ${at}`, 'done'), {}, 'owner', at)
  expect(transfers.list().map(({ id }) => id)).toEqual(Array.from({ length: 100 }, (_, index) => `done ${150 - index}`))
  expect(transfers.find('done 50')).toBeUndefined()
  expect(transfers.paused('download', { repository: 'a/b' })).toBe('paused')
})

test('only unfinished transfers of dead processes are orphans', () => {
  const { transfers, owners } = history
  owners.keep('alive', Date.now())
  transfers.save(transfer('done', 'done'), {}, 'dead', 1)
  transfers.save(transfer('lost', 'running'), {}, 'dead', 2)
  transfers.save(transfer('busy', 'running'), {}, 'alive', 3)
  expect(transfers.orphans().map(({ transfer: { id } }) => id)).toEqual(['lost'])
})

test('the bundled model is the first, also if another was added before it was described', () => {
  const common = { source: null, description: describedModel(), bytes: 1, parent: null, run: null }
  history.models.insert({ ...common, id: 'a', name: 'mine', path: '/mine', origin: 'linked', createdAt: 1 })
  history.models.insert({ ...common, id: 'b', name: 'Sample model', path: '/sample', origin: 'bundled', createdAt: 2 })
  expect(history.models.list().map(({ name }) => name)).toEqual(['Sample model', 'mine'])
})

test('the runs of a model are counted as everywhere: analyses are none', () => {
  for (const method of ['dense', '2ssp', 'divergence']) insertRun(history, { method })
  expect(history.models.list().map(({ usedByRuns }) => usedByRuns)).toEqual([2])
})
