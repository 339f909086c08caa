import { expect, it } from 'vitest'
import { endsInLoop } from '#contract/comparison/answer-statistics.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { topIndices } from '#engine/evaluation/generation/sampling.ts'
import { repetition } from '#engine/evaluation/repetition.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { referenceModel, referenceWindows } from '../../fixtures/reference.ts'

async function answer(view: ModelView, prompt: Int32Array, tokens: number): Promise<number[]> {
  const session = new DecodingSession(view)
  const ids: number[] = []
  let [logits] = await session.feed(prompt, 1)
  while (ids.length < tokens) {
    ids.push(topIndices(logits ?? [], 1)[0] ?? -1)
    ;[logits] = await session.feed(Int32Array.of(ids.at(-1) ?? 0), 1)
  }
  session.dispose()
  return ids
}

it('counts the greedy answers that end in a loop, of prompts continued together as of each alone', async () => {
  await openBackend('auto')
  const model = await openModel(await referenceModel('stories260k'))
  const view = viewWithPlan(model, removeParts(densePlan(model.spec), [1, 2, 3, 5, 6]))
  const [first = new Int32Array()] = await referenceWindows('calibration')
  const prompts = Array.from({ length: 18 }, (_, at) => first.slice(at, at + 6 + (at % 3)))
  const alone: number[][] = []
  for (const prompt of prompts) alone.push(await answer(view, prompt.subarray(0, 6), 64))
  const looping = alone.filter(endsInLoop).length / alone.length
  expect(looping).toBeGreaterThan(0)
  expect(looping).toBeLessThan(1)
  const measures = await repetition(view, prompts, 'stories', { tokens: 64, endIds: [] })
  expect(measures[0]).toMatchObject({ name: 'looping answers', dataset: 'stories', value: looping, unit: 'share' })
  expect(measures[0]?.error).toBeCloseTo(Math.sqrt((looping * (1 - looping)) / 18), 12)
  // An empty answer repeats nothing.
  const ends = [...new Set(alone.map(([id = -1]) => id))]
  const [ended, distinct, ending] = await repetition(view, prompts, 'stories', { tokens: 64, endIds: ends })
  expect([ended?.value, distinct?.value, ending?.value]).toEqual([0, 1, 0])
  view.dispose()
  await model.close()
})
