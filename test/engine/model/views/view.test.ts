import { afterAll, beforeAll, expect, test } from 'vitest'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { testedBackend } from '../../../fixtures/tested-backend.ts'

let model: Model
beforeAll(async () => {
  await openBackend(testedBackend)
  model = await openModel(sampleModelFolder)
})
afterAll(() => model.close())

function view(mlp: Partial<Exclude<MlpPlan, 'removed'>>): void {
  const plan = densePlan(model.spec)
  const [, block] = plan.blocks
  if (block) block.mlp = { kept: 'all', ...mlp }
  viewWithPlan(model, plan).dispose()
}

test.each([
  ['neurons', { kept: [0, 384] }, 'kept neurons of block 1 must be ascending, not empty and below 384, but it has 384'],
  ['neurons', { kept: [3, 2] }, 'it has 2'],
  ['neurons', { kept: [] }, 'not empty and below 384.'],
  ['neurons', { kept: [Number.NaN] }, 'it has NaN'],
  ['inputs', { inputs: [0, 128] }, 'kept channels of block 1 must be ascending, not empty and below 128, but it has 128'],
  ['inputs', { inputs: [-1] }, 'it has -1'],
  ['outputs', { outputs: [5, 5] }, 'kept channels of block 1 must be ascending, not empty and below 128, but it has 5'],
  ['outputs', { outputs: [] }, 'not empty and below 128.'],
])('a plan with %s out of range is refused: %j', (_what, mlp, says) => {
  expect(() => view(mlp)).toThrow(says)
})

test('a plan with channels in range is a view', () => {
  expect(() => view({ inputs: [0, 5, 127], outputs: [1, 2] })).not.toThrow()
})
