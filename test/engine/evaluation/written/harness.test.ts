/** Compares prompts and judgements with those that lm-evaluation-harness 0.4.13 recorded for the same rows and answers. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { chatPrompt, judgeAnswers, plainPrompt, requireRoom } from '#engine/evaluation/written/evaluate.ts'
import { writtenTasks } from '#engine/evaluation/written/index.ts'
import { readWritten } from '#engine/evaluation/written/questions.ts'
import { scratchOfTest } from '../../../fixtures/scratch.ts'
import answers from '../../../fixtures/written/answers.json' with { type: 'json' }
import recorded from '../../../fixtures/written/recorded.json' with { type: 'json' }

const folder = join(import.meta.dirname, '../../../fixtures/written')

test.each(['gsm8k', 'ifeval'] as const)('asks %s as the harness does, with its examples, plain and as a chat', async (id) => {
  const { questions } = await readWritten(id, { folder })
  const { raw, chat } = recorded[id]
  expect(questions.map(({ turns }) => plainPrompt(turns))).toEqual(raw.prompts.slice(0, questions.length))
  expect(questions.map(({ turns }) => chatPrompt(turns))).toEqual(chat.slice(0, questions.length))
  expect(writtenTasks[id].stops).toEqual(raw.settings.until)
})

test('judges answers to GSM8K as the harness does, strictly and by the last number', async () => {
  const { questions } = await readWritten('gsm8k', { folder })
  const { judged, results } = recorded.gsm8k.raw
  const cut = answers.gsm8k.map((text) => writtenTasks.gsm8k.stops.reduce((rest, stop) => rest.split(stop)[0] ?? '', text))
  const names = { 'strict-match': 'exact match', 'flexible-extract': 'exact match, last number' } as const
  for (const { doc_id, filter, exact_match } of judged) {
    const own = at(questions, doc_id).judge(at(cut, doc_id))
    expect([doc_id, filter, own[names[filter as keyof typeof names]]]).toEqual([doc_id, filter, exact_match === 1])
  }
  expect(judgeAnswers('gsm8k', questions, cut).measures).toMatchObject([
    { name: 'exact match', value: results['exact_match,strict-match'] },
    { name: 'exact match, last number', value: results['exact_match,flexible-extract'] },
  ])
})

test('checks instructions of IFEval as the harness does, and leaves out those that need a language library', async () => {
  const { questions, leftOut } = await readWritten('ifeval', { folder })
  expect([questions.length, ...leftOut]).toEqual([answers.ifeval.length - 1, ['instructions that need a language library', 1]])
  for (const [index, { judge }] of questions.entries()) {
    const their = at(recorded.ifeval.raw.judged, index)
    expect([index, judge(at(answers.ifeval, index))]).toEqual([
      index,
      {
        'prompts followed': their.prompt_level_strict_acc,
        'prompts followed, loosely': their.prompt_level_loose_acc,
        'instructions followed': their.inst_level_strict_acc,
        'instructions followed, loosely': their.inst_level_loose_acc,
      },
    ])
  }
})

test('distinguishes details that cannot be checked from instructions that need a library, and refuses unknown instructions', async () => {
  const row = (id: string, details: object) => `${JSON.stringify({ prompt: 'Write.', instruction_id_list: [id], kwargs: [details] })}\n`
  const good = row('punctuation:no_comma', {})
  const letter = row('keywords:letter_frequency', { letter: '#', let_frequency: 3, let_relation: 'at least' })
  const other = scratchOfTest('written')
  await mkdir(join(other, 'ifeval'))
  const read = async (rows: string) => {
    await writeFile(join(other, 'ifeval/train.jsonl'), rows)
    return readWritten('ifeval', { folder: other })
  }
  const { questions, leftOut } = await read(letter + row('change_case:english_capital', {}) + good + letter)
  expect([questions.length, ...leftOut]).toEqual([
    1,
    ['instructions with details that cannot be checked', 2],
    ['instructions that need a language library', 1],
  ])
  const marked = await read(row('detectable_content:postscript', { postscript_marker: 'constructor' }))
  expect(at(marked.questions, 0).judge('Bye.\nconstructor: more')).toMatchObject({ 'prompts followed': true })
  await expect(read(good + row('constructor', {}))).rejects.toThrow(
    'is not a valid IFEval question: the instruction "constructor" is unknown.',
  )
})

test('asks only the first questions, and never uses questions as examples', async () => {
  expect((await readWritten('gsm8k', { folder }, 3)).questions).toHaveLength(3)
  const other = scratchOfTest('written')
  await mkdir(join(other, 'gsm8k'))
  await copyFile(join(folder, 'gsm8k/test.jsonl'), join(other, 'gsm8k/test.jsonl'))
  await expect(readWritten('gsm8k', { folder: other })).rejects.toThrow('GSM8K has no questions of its split "train"')
})

test('a context without room for a prompt is wrong for any amount that is removed', () => {
  expect(() => requireRoom(writtenTasks.gsm8k, 257)).not.toThrow()
  expect(() => requireRoom(writtenTasks.gsm8k, 256)).toThrow(expect.objectContaining({ code: 'invalid' }))
})
