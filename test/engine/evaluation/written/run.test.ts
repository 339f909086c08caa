import { join } from 'node:path'
import { expect, test } from 'vitest'
import { complete } from '#engine/evaluation/generation/answer.ts'
import { topIndices } from '#engine/evaluation/generation/sampling.ts'
import { writeAnswers } from '#engine/evaluation/written/evaluate.ts'
import { writtenTasks } from '#engine/evaluation/written/index.ts'
import type { WrittenTask } from '#engine/evaluation/written/written-task.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { hostIn } from '../../../fixtures/run-host.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const steps = scratchFolder('written')
const folder = join(import.meta.dirname, '../../../fixtures/written')

test('a run asks GSM8K, keeps answers as steps, and judges them', async () => {
  const kept = new Map<string, StepResult>()
  const host = hostIn(steps, kept)
  const measures = [{ kind: 'tasks' as const, tasks: ['gsm8k'], folder, limit: 1 }]
  const asked = {
    model: await referenceModel('stories260k'),
    method: 'dense',
    amount: { sparsity: 0 },
    options: {},
    seed: 0,
    measures,
    backend: 'auto' as const,
  }
  const found = await executeRun(asked, host)
  const own = found.measures.filter(({ dataset }) => dataset === 'gsm8k')
  expect(own.map(({ name, unit }) => [name, unit])).toEqual([
    ['exact match', 'share'],
    ['exact match, last number', 'share'],
  ])
  expect(found.answers).toHaveLength(1)
  // Finished answers are read back, not written again.
  const [name = ''] = [...kept.keys()].filter((one) => one.startsWith('answers to gsm8k'))
  kept.set(name, { value: { value: ['#### 24'], seconds: 0 } })
  const again = await executeRun(asked, host)
  expect(again.measures.filter(({ dataset }) => dataset === 'gsm8k').map(({ value }) => value)).toEqual([1, 1])
})

test('a prompt begins with the begin token if the tokenizer says so, once', async () => {
  const path = await referenceModel('stories260k')
  const [model, tokenizer] = [await openModel(path), await openTokenizer(path)]
  const view = denseView(model)
  const { signal } = new AbortController()
  const task: WrittenTask = { ...writtenTasks.gsm8k, tokens: 12, stops: [] }
  const write = async (asked: string) => {
    const [text] = await writeAnswers(view, tokenizer, [{ turns: [{ asked }], judge: () => ({}) }], {
      task,
      chat: false,
      signal,
      report: () => {},
    })
    return text
  }
  const expected = (ids: number[]) => complete(view, tokenizer, ids, { tokens: 12, stops: [], signal })
  const ids = tokenizer.encode('The dog')
  const [begun, bare] = [await expected([1, ...ids]), await expected(ids)]
  expect(begun).not.toBe(bare)
  expect([await write('The dog'), await write('<s>The dog')]).toEqual([begun, await expected(tokenizer.encode('<s>The dog'))])
  await model.close()
})

test('completes greedily to the most tokens, and ends before a stop text', async () => {
  const path = await referenceModel('stories260k')
  const [model, tokenizer] = [await openModel(path), await openTokenizer(path)]
  const view = denseView(model)
  const prompt = tokenizer.encode('Once upon a time, there was a')
  const { signal } = new AbortController()
  const ids: number[] = []
  const session = new DecodingSession(view)
  let [logits] = await session.feed(Int32Array.from(prompt), 1)
  while (ids.length < 20) {
    ids.push(topIndices(logits ?? [], 1)[0] ?? -1)
    ;[logits] = await session.feed(Int32Array.of(ids.at(-1) ?? 0), 1)
  }
  session.dispose()
  const whole = await complete(view, tokenizer, prompt, { tokens: 20, stops: [], signal })
  expect(tokenizer.decode([...prompt, ...ids])).toBe(tokenizer.decode(prompt) + whole)
  const stop = whole.slice(12, 17)
  expect(await complete(view, tokenizer, prompt, { tokens: 20, stops: ['zzz', stop], signal })).toBe(whole.slice(0, whole.indexOf(stop)))
  expect(await complete(view, tokenizer, prompt, { tokens: 3, stops: [], signal })).toBe(
    tokenizer.decode([...prompt, ...ids.slice(0, 3)]).slice(tokenizer.decode(prompt).length),
  )
  await model.close()
})
