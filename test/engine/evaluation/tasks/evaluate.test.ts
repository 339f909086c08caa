import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import type { HubFile } from '#contract/models/hub-file.ts'
import type { Progress } from '#contract/runs/time/progress.ts'
import type { TaskId } from '#contract/titles.ts'
import { answerQuestions, evaluateTask as evaluateQuestions, type TaskOptions } from '#engine/evaluation/tasks/evaluate.ts'
import { type QuestionSource, readQuestions } from '#engine/evaluation/tasks/questions.ts'
import type { LikelihoodModel } from '#engine/evaluation/tasks/score.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchOfTest } from '../../../fixtures/scratch.ts'
import { characterTokenizer, TableModel } from './table-model.ts'

const signal = new AbortController().signal
const tokenizer = characterTokenizer() as unknown as Tokenizer

let folder: string
beforeEach(() => {
  folder = scratchOfTest('tasks')
})

function write(path: string, rows: unknown[]) {
  mkdirSync(join(folder, path, '..'), { recursive: true })
  writeFileSync(join(folder, path), rows.map((row) => JSON.stringify(row)).join('\n'))
}

// After any letter: space 1/2, a 1/4, b 1/8, the astral 😀 1/3, else 1/100.
const chances: Record<string, number> = { ' ': 1 / 2, a: 1 / 4, b: 1 / 8, '😀': 1 / 3 }
const model = () => new TableModel(512, (_, next) => chances[next] ?? 1 / 100)

/** Reads a task's questions and answers them. */
async function evaluateTask(
  ...[asked, reader, id, { limit, folder: from, fetchFile, ...options }]: [
    LikelihoodModel,
    Tokenizer,
    TaskId,
    TaskOptions & QuestionSource & { limit?: number },
  ]
) {
  const source = { ...(from === undefined ? {} : { folder: from }), ...(fetchFile ? { fetchFile } : {}) }
  return evaluateQuestions(asked, reader, id, await readQuestions(id, source, limit), options)
}

test('scores come out as worked out by hand, plain and per character', async () => {
  const scores: number[][] = []
  const spying = model()
  const scored = spying.logProbabilities.bind(spying)
  spying.logProbabilities = async (...given) => {
    const results = await scored(...given)
    scores.push(...results)
    return results
  }
  write('piqa/validation.jsonl', [
    // ' aaa' = 1/2·1/64, ' b' = 1/2·1/8: b wins; per character log(1/128)/3 = -1.617, log(1/16)/1 = -2.773: aaa wins.
    { goal: 'g', sol1: 'aaa', sol2: 'b', label: 0 },
    // ' 😀😀😀' = 1/2·1/27, ' ab' = 1/2·1/32: 😀😀😀 wins; three characters, not six units: log(1/54)/3 = -1.330, log(1/64)/2 = -2.079.
    { goal: 'g', sol1: 'ab', sol2: '😀😀😀', label: 1 },
    // equal: the first wins
    { goal: 'g', sol1: 'ab', sol2: 'ba', label: 1 },
  ])
  const { measures } = await evaluateTask(spying, tokenizer, 'piqa', { folder, signal })
  const expected = [
    [1 / 128, 1 / 16],
    [1 / 64, 1 / 54],
    [1 / 64, 1 / 64],
  ].map((row) => row.map(Math.log))
  expect(scores.flat().length).toBe(6)
  for (const [row, values] of expected.entries())
    for (const [choice, value] of values.entries()) expect(scores[row]?.[choice]).toBeCloseTo(value, 6)
  expect(measures).toEqual([
    { name: 'accuracy', dataset: 'piqa', value: 1 / 3, unit: 'share', error: Math.sqrt(((1 / 3) * (1 - 1 / 3)) / 2) },
    { name: 'accuracy per character', dataset: 'piqa', value: 2 / 3, unit: 'share', error: Math.sqrt(((2 / 3) * (1 - 2 / 3)) / 2) },
  ])
})

test('WinoGrande picks the option after which the rest is likelier, and has no score per character', async () => {
  const rest = new TableModel(512, (previous, next) => (previous === 'x' && next === ' ' ? 0.9 : 0.1))
  write('winogrande/validation.jsonl', [
    { sentence: 'A _ b.', option1: 'ox', option2: 'oy', answer: '1' },
    { sentence: 'A _, b.', option1: 'oy', option2: 'ox', answer: '1' },
  ])
  const { measures } = await evaluateTask(rest, tokenizer, 'winogrande', { folder, signal })
  expect(measures).toEqual([{ name: 'accuracy', dataset: 'winogrande', value: 0.5, unit: 'share', error: 0.5 }])
})

test('a limit counts per subject, and progress is reported in questions', async () => {
  const row = (subject: string) => ({ question: 'q', subject, choices: ['1', '2', '3', '4'], answer: 0 })
  write('mmlu/anatomy/test.jsonl', [row('anatomy'), row('anatomy'), row('anatomy')])
  write('mmlu/virology/test.jsonl', [row('virology'), row('virology'), row('virology')])
  const reports: Progress[] = []
  const letters = model()
  const { measures, questions } = await evaluateTask(letters, tokenizer, 'mmlu', {
    folder,
    signal,
    limit: 2,
    report: (progress) => reports.push(progress),
  })
  expect(letters.batches.flat()).toHaveLength(4)
  expect(questions).toHaveLength(4)
  expect(questions[0]).toMatchObject({ choices: [' A', ' B', ' C', ' D'], gold: 0, correct: true })
  expect(questions[0]?.scores).toHaveLength(4)
  expect(measures.map((measure) => measure.dataset)).toContain('mmlu_virology')
  expect(reports.at(-1)).toEqual({ phase: 'MMLU', done: 4, total: 4, unit: 'questions' })
})

test('in a folder with several splits only the published one is read', async () => {
  const row = { goal: 'g', sol1: 'a', sol2: 'b', label: 0 }
  write('piqa/piqa_train.jsonl', [row, row, row])
  write('piqa/piqa_validation.jsonl', [row, row])
  const asked = model()
  await evaluateTask(asked, tokenizer, 'piqa', { folder, signal })
  expect(asked.batches.flat()).toHaveLength(2)
  write('arc_easy/train/x.jsonl', [{}])
  write('arc_easy/test/x.jsonl', [{ question: 'q', choices: { text: ['a'], label: ['A'] }, answerKey: 'A' }])
  expect((await evaluateTask(model(), tokenizer, 'arc_easy', { folder, signal })).measures).toHaveLength(2)
})

test('a data set with splits that the Python library saved is read from its files as state.json lists them', async () => {
  write('piqa/validation/b.jsonl', [{ goal: 'g', sol1: 'a', sol2: 'b', label: 0 }])
  write('piqa/validation/left-over.jsonl', [{}])
  writeFileSync(join(folder, 'piqa/validation/state.json'), JSON.stringify({ _data_files: [{ filename: 'b.jsonl' }] }))
  writeFileSync(join(folder, 'piqa/dataset_dict.json'), JSON.stringify({ splits: ['train', 'validation'] }))
  const asked = model()
  await evaluateTask(asked, tokenizer, 'piqa', { folder, signal })
  expect(asked.batches.flat()).toHaveLength(1)
})

test('without a folder the published file is asked for by name', async () => {
  const asked: HubFile[] = []
  write('rows.jsonl', [{ goal: 'g', sol1: 'a', sol2: 'b', label: 0 }])
  const fetchFile = async (file: HubFile) => {
    asked.push(file)
    return join(folder, 'rows.jsonl')
  }
  await evaluateTask(model(), tokenizer, 'piqa', { fetchFile, signal })
  expect(asked).toEqual([
    { kind: 'dataset', repository: 'baber/piqa', revision: '142f6d7367fd9877f0fb3b5734ea6a545f54cdd1', path: 'piqa_validation.parquet' },
  ])
})

test('a missing folder names the file to put there, and a damaged model is not scored', async () => {
  await expect(evaluateTask(model(), tokenizer, 'piqa', { folder, signal })).rejects.toThrow(/piqa_validation\.parquet of baber\/piqa/)
  const damaged = new TableModel(512, () => Number.NaN)
  const question = { requests: [{ context: 'c', continuations: [' a', ' b'] }], gold: 0 }
  await expect(answerQuestions(damaged, tokenizer, [question], signal)).rejects.toThrow(/NaN/)
})
