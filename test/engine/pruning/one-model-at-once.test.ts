import { memory } from '@tensorflow/tfjs-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { stackParameters } from '#engine/architectures/count-parameters.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { planWithoutExperts } from '#engine/pruning/experts/expert-plan.ts'
import { gateCorrections } from '#engine/pruning/experts/gate-correction.ts'
import { type ReferenceModel, referenceModel, referenceWindows } from '../../fixtures/reference.ts'
import { testedBackend } from '../../fixtures/tested-backend.ts'

let calibration: Int32Array[]
beforeAll(async () => {
  await openBackend(testedBackend)
  calibration = (await referenceWindows('calibration')).slice(0, 2).map((window) => window.slice(0, 32))
})

/** Models stay open until the end, so that what one frees does not hide what another keeps. */
const opened: Model[] = []
afterAll(() => Promise.all(opened.map((model) => model.close())))

/** A model whose weights are all in memory. */
async function loaded(name: ReferenceModel): Promise<Model> {
  const model = await openModel(await referenceModel(name))
  opened.push(model)
  const view = denseView(model)
  for (const part of view.parts) view.release(part, await view.lease(part))
  return model
}

test('gates are corrected without keeping the mixtures of fewer experts beside the whole ones', async () => {
  const model = await loaded('olmoe')
  const gone = new Map(model.spec.blocks.map((_, block) => [block, [0]]))
  const correct = (progress: () => void) =>
    gateCorrections(denseView(model), planWithoutExperts(model.spec, gone, 'dropped'), calibration, { progress })
  await correct(() => undefined)
  const before = memory().numBytes
  const seen: number[] = []
  await correct(() => void seen.push(memory().numBytes))
  expect(seen.length).toBeGreaterThan(0)
  expect(Math.max(...seen) - before).toBeLessThan(0.3 * 4 * stackParameters(model.spec))
})
