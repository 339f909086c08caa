import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { KeptAnswers } from '#engine/model/decoding/kept-answers.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { relativeError } from '../logits.ts'

beforeAll(() => openBackend(testedBackend))

const talk = Array.from({ length: 30 }, (_, index) => (index * 7 + 3) % 500)

test('a prompt that begins with a kept answer of the same plan continues from it, with the same answer as without it', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const [view, other] = [denseView(model), viewWithPlan(model, removeParts(densePlan(model.spec), [2]))]
  const warm = new DecodingSession(view)
  await warm.feed(Int32Array.from(talk), 1)
  warm.dispose()
  const before = memory().numTensors
  const answers = new KeptAnswers({ workspaceBytes: 2 ** 24 })
  const first = answers.begin(view, talk)
  expect(first.known).toBe(0)
  await first.session.feed(Int32Array.from(talk), 1)
  answers.keep(view, talk, first.session)
  first.session.dispose()
  const apart = answers.begin(other, talk)
  expect(apart.known).toBe(0)
  apart.session.dispose()
  // Another turn, a changed token in the middle, and the same prompt again, whose last token is read again.
  for (const [prompt, known] of [
    [[...talk, 5, 6, 7], 30],
    [[...talk.slice(0, 12), 9, 9], 12],
    [talk, 29],
    [talk.slice(0, 5), 0],
  ] as const) {
    const next = answers.begin(view, prompt)
    expect(next.known).toBe(known)
    const fresh = new DecodingSession(view)
    const [own] = await next.session.feed(Int32Array.from(prompt.slice(known)), 1)
    const [expected] = await fresh.feed(Int32Array.from(prompt), 1)
    expect(relativeError([...(own ?? [])], [...(expected ?? [])])).toBeLessThan(1e-5)
    next.session.dispose()
    fresh.dispose()
  }
  answers.dispose()
  expect(memory().numTensors, 'keys and values left behind').toBe(before)
  await model.close()
})

test('only the tokens that were read are kept of a stopped answer', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const view = denseView(model)
  const answers = new KeptAnswers({ workspaceBytes: 2 ** 24 })
  const { session } = answers.begin(view, talk)
  await session.feed(Int32Array.from(talk.slice(0, 20)), 1)
  await expect(session.feed(Int32Array.from(talk.slice(20)), 1, AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' })
  answers.keep(view, talk, session)
  session.dispose()
  const next = answers.begin(view, talk)
  expect(next.known).toBe(20)
  next.session.dispose()
  answers.dispose()
  await model.close()
})

test('the oldest answers make room', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const view = denseView(model)
  const { keyValueHeads, headSize, blocks } = model.spec
  const answers = new KeptAnswers({ workspaceBytes: 4 * 8 * 30 * keyValueHeads * headSize * blocks.length })
  for (const shift of [0, 1]) {
    const ids = talk.map((id) => id + shift)
    const { session } = answers.begin(view, ids)
    await session.feed(Int32Array.from(ids), 1)
    answers.keep(view, ids, session)
    session.dispose()
  }
  const starts = [0, 1].map((shift) =>
    answers.begin(
      view,
      talk.map((id) => id + shift),
    ),
  )
  expect(starts.map(({ known }) => known)).toEqual([0, 29])
  for (const { session } of starts) session.dispose()
  answers.dispose()
  await model.close()
})
