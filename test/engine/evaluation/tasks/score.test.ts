import { expect, test } from 'vitest'
import { measureAccuracy, pool, share } from '#engine/evaluation/tasks/accuracy.ts'
import { judge, type Outcome, scoreContinuations } from '#engine/evaluation/tasks/score.ts'
import { TableModel } from './table-model.ts'

const signal = new AbortController().signal
const request = (prefix: number, lengths: number[]) => ({
  prefix: new Int32Array(prefix).fill(97),
  continuations: lengths.map((length) => new Int32Array(length).fill(98)),
})

test('requests run longest first, together up to 2048 tokens, and results come back in the order given', async () => {
  const model = new TableModel(30_000, () => 0.5)
  const requests = [request(3, [1, 2]), request(1000, [1, 1]), request(3, [3]), ...[1, 2, 3].map(() => request(1000, [4]))]
  const done: number[] = []
  const results = await scoreContinuations(model, requests, signal, (count) => done.push(count))
  expect(results.map((row) => row.map((one) => Math.round(one / Math.log(0.5))))).toEqual([[1, 2], [1, 1], [3], [4], [4], [4]])
  expect(model.batches.map((batch) => batch.map(({ prefix }) => prefix.length))).toEqual([
    [1000, 1000],
    [1000, 1000, 3, 3],
  ])
  expect(done).toEqual([2, 6])
})

test('a cancel stops between batches', async () => {
  const controller = new AbortController()
  const model = new TableModel(10, () => 0.5)
  const work = scoreContinuations(model, [request(2000, [1, 1]), request(2000, [1, 1])], controller.signal, () => controller.abort())
  await expect(work).rejects.toMatchObject({ name: 'AbortError' })
  expect(model.batches).toHaveLength(1)
})

test('the first of equal choices wins, before and after dividing by characters', () => {
  const question = { requests: [], gold: 1, lengths: [1, 2, 4] }
  expect(judge(question, [-2, -2, -2])).toMatchObject({ correct: false, correctPerCharacter: false })
  expect(judge({ ...question, lengths: [2, 2, 4] }, [-3, -2, -4])).toMatchObject({ correct: true, correctPerCharacter: true })
  expect(judge({ ...question, lengths: [1, 2, 1] }, [-1, -1.5, -9])).toMatchObject({ correct: false, correctPerCharacter: true })
})

test('accuracy of 3 in 4 has the standard error 0.25', () => {
  // Sample variance 4/3 · 0.75 · 0.25 = 0.25; its root over the root of 4.
  expect(share([true, true, false, true])).toEqual({ value: 0.75, error: 0.25, questions: 4 })
  expect(share([true]).error).toBeUndefined()
})

test('a pool weighs by size and takes its error from the pooled variance', () => {
  const first = share([true, false, true, true])
  const second = share([false, true])
  const pooled = pool([first, second])
  expect(pooled.value).toBeCloseTo(4 / 6, 12)
  // (3·4·(1/16) + 1·2·(1/4)) / (6 - 2) / 6 = 1.25 / 24
  expect(pooled.error).toBeCloseTo(Math.sqrt(1.25 / 24), 12)
})

test('MMLU has a row for the whole, each group and each subject, pooled from subjects', () => {
  const outcomes: Omit<Outcome, 'scores'>[] = [
    ...[true, false, true, true].map((correct) => ({ correct, subject: 'anatomy' })),
    ...[false, true].map((correct) => ({ correct, subject: 'astronomy' })),
    ...[true, true].map((correct) => ({ correct, subject: 'virology' })),
  ]
  const rows = measureAccuracy('mmlu', outcomes)
  expect(rows.map((row) => row.dataset)).toEqual(['mmlu', 'mmlu_other', 'mmlu_virology', 'mmlu_stem', 'mmlu_anatomy', 'mmlu_astronomy'])
  const by = (dataset: string) => rows.find((row) => row.dataset === dataset)
  expect(by('mmlu')?.value).toBe(6 / 8)
  expect(by('mmlu')?.error).toBeCloseTo(Math.sqrt(1.25 / 5 / 8), 12)
  expect(by('mmlu_stem')?.value).toBeCloseTo(4 / 6, 12)
  expect(by('mmlu_stem')?.error).toBeCloseTo(Math.sqrt(1.25 / 24), 12)
  expect(by('mmlu_virology')).toEqual({ name: 'accuracy', dataset: 'mmlu_virology', value: 1, unit: 'share', error: 0 })
})
