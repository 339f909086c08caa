import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Measure } from '#contract/runs/measures.ts'
import { type History, openHistory } from '#db/history.ts'
import { scratchOfTest } from '../../fixtures/scratch.ts'
import { insertRun } from '../rows.ts'

let folder: string
let history: History

beforeEach(() => {
  folder = scratchOfTest('measures')
  history = openHistory(folder)
})

afterEach(() => history.close())

const perplexity: Measure = {
  name: 'perplexity',
  dataset: 'prose',
  value: Math.exp(3.3),
  unit: '',
  on: { hash: 'abc', count: 2, sequenceLength: 512, beginToken: true, text: 'def', bytes: 4096 },
  losses: [3.1, 3.5000000000000004],
  predicted: [511, 255],
}

test('a measure keeps what it was taken on, and its losses to the last digit, which lists leave out', () => {
  const { number } = insertRun(history)
  history.measures.add(number, perplexity, 1)
  history.measures.add(number, { name: 'looping answers', dataset: 'prose', value: 0.5, unit: 'share', hits: '0101' }, 1)
  const [row] = history.runs.entries([number])
  const { losses: _, predicted: __, ...short } = perplexity
  expect(row?.measures[0]).toEqual({ ...short, best: perplexity.value })
  expect(row?.measures[1]).not.toHaveProperty('hits')
  const [full] = history.runs.entries([number], { details: true })
  expect(full?.measures[0]).toEqual({ ...perplexity, best: perplexity.value })
  expect(full?.measures[1]).toMatchObject({ hits: '0101' })
})

test('a later value replaces what the earlier one was taken on', () => {
  const { number } = insertRun(history)
  history.measures.add(number, perplexity, 1)
  history.measures.add(number, { name: 'perplexity', dataset: 'prose', value: 30, unit: '' }, 2)
  expect(history.runs.entries([number], { details: true })[0]?.measures).toEqual([
    { name: 'perplexity', dataset: 'prose', value: 30, unit: '', best: perplexity.value },
  ])
  history.measures.add(number, perplexity, 3)
  history.measures.clear(number)
  expect(history.db.prepare('SELECT count(*) FROM measure_details').pluck().get()).toBe(0)
})

test('a run on a saved model descends from the dense model as it was when it was pruned', () => {
  const pruned = insertRun(history)
  history.runs.patch(pruned.number, { fingerprint: 'content of the dense model' })
  const [dense] = history.models.list()
  const saved = (id: string, parent: string, run: string) =>
    history.models.insert({ ...(dense as NonNullable<typeof dense>), id, path: `/${id}`, parent, run, createdAt: 2 })
  saved('saved', dense?.id ?? '', pruned.id)
  const on = (model: string) => {
    const { id, number } = insertRun(history, { method: 'dense' })
    history.db.prepare('UPDATE runs SET model = ? WHERE number = ?').run(model, number)
    history.runs.patch(number, { fingerprint: `content of ${model}` })
    return { id, number }
  }
  const again = on('saved')
  saved('saved-again', 'saved', again.id)
  const last = on('saved-again')
  // The dense model is replaced later.
  const fresh = insertRun(history)
  history.runs.patch(fresh.number, { fingerprint: 'other content' })
  const numbers = [pruned, again, last, fresh].map(({ number }) => number)
  const { id: model = '' } = dense ?? {}
  expect(history.runs.entries(numbers).map(({ lineage }) => lineage)).toEqual([
    { model, content: 'content of the dense model', pruned: false },
    { model, content: 'content of the dense model', pruned: true },
    { model, content: 'content of the dense model', pruned: true },
    { model, content: 'other content', pruned: false },
  ])
})
