import { afterAll, beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { logitsOf, relativeError } from '../logits.ts'

let model: Model
beforeAll(async () => {
  await openBackend(testedBackend)
  model = await openModel(await referenceModel('stories260k'))
})
afterAll(() => model.close())

test('sessions that decode together keep the embedding and head of their own view', async () => {
  const kept = [...Array(model.spec.vocabulary).keys()].filter((id) => id % 3 > 0)
  const views = [denseView(model), viewWithPlan(model, { ...densePlan(model.spec), vocabulary: { kept } })]
  const ids = Int32Array.of(7, 40, 200, 9, 33)
  const sessions = views.map((view) => new DecodingSession(view))
  await Promise.all(sessions.map((session) => session.feed(ids.subarray(0, 4), 1)))
  const found = await Promise.all(sessions.map((session) => session.feed(ids.subarray(4), 1)))
  for (const [place, view] of views.entries()) {
    const expected = (await logitsOf(view, ids)).at(-1) as number[]
    expect(found[place]?.[0]?.length).toBe(view.spec.vocabulary)
    expect(relativeError([...(found[place]?.[0] ?? [])], expected)).toBeLessThan(1e-5)
  }
  for (const session of sessions) session.dispose()
  views[1]?.dispose()
})
