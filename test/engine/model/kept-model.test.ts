import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { acquireModel, releaseModel } from '#engine/model/kept-model.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('kept')
beforeAll(async () => {
  await openBackend('auto')
  writeFileSync(join(folder, 'config.json'), '{ "model_type": "nothing we know" }')
  writeFileSync(join(folder, 'model.safetensors'), '')
})
afterEach(() => releaseModel())

test('a model that fails to open throws at its own caller only', async () => {
  const good = await referenceModel('stories260k')
  const [failed, opened, again] = await Promise.allSettled([
    acquireModel(folder, undefined),
    acquireModel(good, undefined),
    acquireModel(good, undefined),
  ])
  expect(failed.status).toBe('rejected')
  expect(opened).toMatchObject({ status: 'fulfilled', value: { path: good } })
  expect(again).toEqual(opened)
  // The failure of the other has not made it forget this model either.
  expect(await acquireModel(good, undefined)).toBe(opened.status === 'fulfilled' && opened.value)
})

test('a model that fails to open throws at no later caller, and none is left open beside the last one', async () => {
  const [one, other] = [await referenceModel('stories260k'), await referenceModel('qwen2-tiny')]
  await expect(acquireModel(folder, undefined)).rejects.toThrow()
  const models = await Promise.all([acquireModel(one, undefined), acquireModel(other, undefined), acquireModel(one, undefined)])
  await releaseModel()
  for (const model of new Set(models)) await expect(model.checkpoint.readFloat32('model.norm.weight')).rejects.toThrow()
})
