import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { logitsOf, relativeError } from '../logits.ts'

beforeAll(() => openBackend(testedBackend))

// So many tokens that the cache grows twice, and weights take their smaller form on the way. gemma3 has two rotary embeddings.
test.each(['stories260k', 'gemma3'] as const)('tokens fed one by one have the logits of one pass: %s', async (name) => {
  const model = await openModel(await referenceModel(name))
  const view = denseView(model)
  const ids = Int32Array.from({ length: 140 }, (_, i) => 3 + ((i * i + 7 * i) % 250))
  const expected = await logitsOf(view, ids)
  const session = new DecodingSession(view)
  for (const [position, id] of ids.entries()) {
    // Two equal sequences for some tokens.
    const count = position >= 20 && position < 24 ? 2 : 1
    if (position === 20) session.select([0, 0])
    if (position === 24) session.select([1])
    for (const row of await session.feed(new Int32Array(count).fill(id), count))
      expect(relativeError([...row], expected[position] ?? []), `position ${position}`).toBeLessThan(1e-5)
  }
  session.dispose()
  view.dispose()
  await model.close()
})

beforeAll(() => openBackend(testedBackend))

/** Removes every `step`-th neuron, and the given parts. */
function planOf(model: Model, step: number, parts: readonly number[]): Plan {
  const plan = removeParts(densePlan(model.spec), [...parts])
  const blocks = plan.blocks.map((block, index) => {
    if (block.mlp === 'removed') return block
    const width = model.spec.blocks[index]?.width ?? 0
    return { ...block, mlp: { kept: Array.from({ length: width }, (_, neuron) => neuron).filter((neuron) => neuron % step !== 1) } }
  })
  return { ...plan, blocks }
}

/** Cuts every third hidden channel that MLPs read and write. */
function channelPlan({ spec }: Model): Plan {
  const left = Array.from({ length: spec.hidden }, (_, channel) => channel).filter((channel) => channel % 3 !== 1)
  const plan = densePlan(spec)
  return { ...plan, blocks: plan.blocks.map((block) => ({ ...block, mlp: { kept: 'all' as const, inputs: left, outputs: left } })) }
}

const prompts = [
  [1, 40, 7, 26],
  [1, 12],
  [1, 40, 7, 99, 3, 5, 8],
  [1, 6, 6, 6],
  [1, 8, 15],
].map((ids) => Int32Array.from(ids))
const next = [3, 9, 27, 81, 12]

/** Logits of each column, token by token. */
async function decodeAll(views: readonly ModelView[], together: boolean): Promise<number[][][]> {
  const answers = views.map((view, column) => async () => {
    const session = new DecodingSession(view)
    const rows: number[][] = []
    await session.feed(prompts[column] as Int32Array, 1)
    for (const id of next) rows.push([...((await session.feed(Int32Array.of(id), 1))[0] ?? [])])
    session.dispose()
    return rows
  })
  if (together) return Promise.all(answers.map((answer) => answer()))
  const alone: number[][][] = []
  for (const answer of answers) alone.push(await answer())
  return alone
}

// Sequential and parallel residuals, whose MLPs read different inputs; plans that share weights, have their own, and lack parts.
test.each(['stories260k', 'phi-tiny'] as const)('columns side by side answer what each answers alone: %s', async (name) => {
  const model = await openModel(await referenceModel(name))
  const plans = [planOf(model, 3, [2]), planOf(model, 2, [1, 4]), planOf(model, 5, []), channelPlan(model)]
  const views = [denseView(model), ...plans.map((plan) => viewWithPlan(model, plan))]
  const alone = await decodeAll(views, false)
  const before = memory().numTensors
  const together = await decodeAll(views, true)
  for (const [column, rows] of together.entries()) {
    for (const [step, row] of rows.entries()) expect(relativeError(row, alone[column]?.[step] ?? [])).toBeLessThan(1e-5)
  }
  // The MLPs of the whole model, read again for columns that share them, and the masks of the neurons that a column keeps.
  expect(memory().numTensors - before).toBeLessThanOrEqual(model.spec.blocks.length * (8 + plans.length))
  for (const view of views) view.dispose()
  await model.close()
})

test('a long prompt has the logits of one pass, at its end and along it, and a stop is seen within it', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const view = denseView(model)
  const ids = Int32Array.from({ length: 1400 }, (_, i) => 3 + ((i * i + 7 * i) % 250))
  const expected = await logitsOf(view, ids)
  const session = new DecodingSession(view)
  const [last = []] = await session.feed(ids, 1)
  expect(relativeError([...last], expected.at(-1) ?? [])).toBeLessThan(1e-5)
  session.dispose()
  const along = new DecodingSession(view)
  let row = 400
  await along.feedAlong(ids, row, (logits) => {
    expect(relativeError([...logits], expected[row] ?? []), `position ${row}`).toBeLessThan(1e-5)
    row++
  })
  expect(row).toBe(ids.length)
  along.dispose()
  const { numTensors } = memory()
  const stopping = new AbortController()
  const stopped = new DecodingSession(view)
  const begun = stopped.feed(ids, 1, stopping.signal)
  setImmediate(() => stopping.abort(new Error('stopped')))
  await expect(begun).rejects.toThrow('stopped')
  stopped.dispose()
  expect(memory().numTensors).toBe(numTensors)
  view.dispose()
  await model.close()
})

test('a column that is stopped leaves the others unchanged', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const view = denseView(model)
  const [stopped, going] = [new DecodingSession(view), new DecodingSession(view)]
  const controller = new AbortController()
  for (const session of [stopped, going]) await session.feed(prompts[0] as Int32Array, 1)
  const answers = [stopped.feed(Int32Array.of(3), 1, controller.signal), going.feed(Int32Array.of(3), 1)]
  controller.abort()
  const [first, second] = await Promise.allSettled(answers)
  expect(first).toMatchObject({ status: 'rejected', reason: { name: 'AbortError' } })
  expect(second).toMatchObject({ status: 'fulfilled' })
  for (const session of [stopped, going]) session.dispose()
  await model.close()
})

test('branches share the slots of their common beginning, and release them', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  const session = new DecodingSession(denseView(model))
  await session.feed(Int32Array.from([1, 40, 7]), 1)
  const forks = session.fork([0, 0, 0])
  const rows = await forks.feed(Int32Array.from([5, 6, 7]), 3)
  forks.select([2, 2])
  const again = await forks.feed(Int32Array.from([9, 9]), 2)
  expect(again[0]).toEqual(again[1])
  const whole = new DecodingSession(denseView(model))
  const [expected] = await whole.feed(Int32Array.from([1, 40, 7, 7, 9]), 1)
  expect(relativeError([...(again[0] ?? [])], [...(expected ?? [])])).toBeLessThan(1e-5)
  expect(rows).toHaveLength(3)
  const before = memory().numTensors
  for (const one of [session, forks, whole]) one.dispose()
  expect(memory().numTensors).toBeLessThan(before)
  await model.close()
})
