import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, expect, test, vi } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, type ModelView, viewWithPlan } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { makeModel, makeWindows } from '../../../fixtures/bench-model.ts'
import { expectSame } from '../../../fixtures/expect-same.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'
import { recordedRun } from '../../pruning/running.ts'

const home = scratchFolder('residency')
const shape = { blocks: 6, hidden: 64, intermediate: 160, heads: 4, keyValueHeads: 2, vocabulary: 256, dtype: 'BF16' } as const
const windows = makeWindows(4, 64, shape.vocabulary).map((ids) => Int32Array.from(ids))
let path = ''
let quantised = ''

beforeAll(async () => {
  await openBackend(testedBackend)
  path = await makeModel(home, shape)
  const [model, folder] = [await openModel(path), join(home, 'quantised')]
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder, ggufTypes: ['Q8_0'] })
  await model.close()
  quantised = join(folder, readdirSync(folder).find((name) => name.endsWith('.gguf')) ?? '')
})

async function pruneWithin(memoryBytes: number, from = path) {
  const model = await openModel(from, memoryBytes)
  try {
    const options = twoStage.options.parse({ windows: 4 })
    const input = {
      view: denseView(model),
      calibration: windows,
      budget: budgetFor(model.spec, { sparsity: 0.5 }),
      options,
      run: recordedRun(),
    }
    const { plan, decisions } = await twoStage.plan(input)
    return { residency: model.store.residency, plan, decisions }
  } finally {
    await model.close()
  }
}

// Quantised weights stay packed in less memory.
test.each([
  ['16-bit', () => path, [8e6, 1.1e6, 6.5e5]],
  ['quantised', () => quantised, [8e6, 8e5, 4e5]],
] as const)(
  '%s weights that fit only as stored stay packed, larger ones are streamed, and the plan is the same',
  async (_, from, budgets) => {
    const before = memory().numTensors
    const [resident, packed, streamed] = [
      await pruneWithin(budgets[0], from()),
      await pruneWithin(budgets[1], from()),
      await pruneWithin(budgets[2], from()),
    ]
    expect([resident, packed, streamed].map(({ residency }) => residency)).toEqual(['resident', 'packed', 'streamed'])
    for (const other of [packed, streamed]) expectSame({ ...other, residency: '' }, { ...resident, residency: '' })
    expect(memory().numTensors, 'tensors left behind').toBe(before)
  },
)

test('a budget too small for two submodules is refused with the size needed', async () => {
  await expect(openModel(path, 1e5)).rejects.toThrow(/too small: the largest submodule takes 1 MiB and two must fit/)
})

test('what a view has gathered is not kept twice, and comes back for the dense model', async () => {
  const model = await openModel(path, 8e6)
  const dense = denseView(model)
  const whole = await perplexity(dense, windows)
  const bytes = memory().numBytes
  const blocks = dense.spec.blocks.map(() => ({ attention: 'kept' as const, mlp: { kept: [1, 5, 9] } }))
  const view = viewWithPlan(model, { ...densePlan(model.spec), blocks })
  await perplexity(view, windows)
  // Three of the 160 neurons of each of the 6 blocks stay.
  expect(bytes - memory().numBytes).toBeGreaterThan(0.9 * 6 * 3 * 160 * 64 * 4)
  const reads = vi.spyOn(model.checkpoint, 'read')
  await perplexity(view, windows)
  expect(reads, 'what is gathered is not read again').not.toHaveBeenCalled()
  expect(await perplexity(dense, windows)).toEqual(whole)
  view.dispose()
  await model.close()
})

test('weights that another view has leased stay when one view gathers from them', async () => {
  const model = await openModel(path, 8e6)
  const [dense, blocks] = [denseView(model), model.spec.blocks.map(() => ({ attention: 'kept' as const, mlp: { kept: [1, 5, 9] } }))]
  const view = viewWithPlan(model, { ...densePlan(model.spec), blocks })
  const leased = await dense.lease(1)
  await view.lease(1)
  expect(leased.mlp?.up.isDisposed).toBe(false)
  dense.release(1, leased)
  view.dispose()
  await model.close()
})

test('a view that passes beside the whole model makes its weights again and keeps none', async () => {
  const model = await openModel(path, 8e6)
  const blocks = model.spec.blocks.map(() => ({ attention: 'kept' as const, mlp: { kept: [1, 5, 9] } }))
  const plan = { ...densePlan(model.spec), blocks }
  const dense = denseView(model)
  const kept = async (view: ModelView) => {
    for (const one of [dense, view, dense]) one.release(1, await one.lease(1))
    return memory().numBytes
  }
  const [whole, passing, keeping] = [dense, viewWithPlan(model, plan, undefined, { passing: true }), viewWithPlan(model, plan)]
  const [alone, beside, twice] = [await kept(whole), await kept(passing), await kept(keeping)]
  expect(beside).toBe(alone)
  expect(twice).toBe(alone + 4 * 3 * 3 * shape.hidden + 4 * shape.hidden)
  for (const view of [passing, keeping]) view.dispose()
  await model.close()
})

// In the smallest budget, embedding and head must make room for two submodules.
test.each([8e6, 1.1e6, 6.5e5, 3.5e5])('borrowers at the same time get the same values, and nothing is left (%i bytes)', async (bytes) => {
  const { numTensors } = memory()
  const model = await openModel(path, bytes)
  const views = [denseView(model), denseView(model), denseView(model)]
  const [first, ...others] = await Promise.all(views.map((view) => perplexity(view, windows)))
  for (const other of others) expect(other).toEqual(first)
  await model.close()
  expect(memory().numTensors).toBe(numTensors)
})
