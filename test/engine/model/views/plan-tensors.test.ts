import { cp, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { memory } from '@tensorflow/tfjs-core'
import { beforeAll, expect, test } from 'vitest'
import { fromFloat32 } from '#engine/checkpoint/dtypes.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { writeSafetensors } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { StoredTensors, writeTensorFile } from '#engine/checkpoint/stored-tensors.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { openModel } from '#engine/model/model.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import { denseView, openView, viewWithPlan } from '#engine/model/views/view.ts'
import { slicegpt } from '#engine/pruning/methods/slicegpt.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { storeTensors, tensorFolder } from '../../../fixtures/store-tensors.ts'
import { openReference, prune } from '../../pruning/running.ts'
import { logitsOf, relativeError } from '../logits.ts'
import { replaceAll } from '../replaced.ts'

const open = openReference('stories260k')
const folder = scratchFolder('plan-tensors')
let window: Int32Array
beforeAll(async () => {
  window = (await referenceWindows('test'))[0]?.subarray(0, 60) as Int32Array
})

/** A reference model with its weights rounded to bfloat16. */
async function halved(): Promise<string> {
  const path = join(folder, 'bf16')
  const source = await referenceModel('stories260k')
  await cp(source, path, { recursive: true })
  const checkpoint = await openCheckpoint(source)
  const tensors = [...checkpoint.tensors.values()].map(({ name, shape }) => ({
    name,
    shape,
    dtype: 'BF16' as const,
    bytes: async () => fromFloat32(await checkpoint.readFloat32(name), 'BF16'),
  }))
  await writeSafetensors(join(path, 'model.safetensors'), tensors)
  await checkpoint.close()
  return path
}

test('a bfloat16 model that is sliced, or repaired, stays bfloat16, becomes smaller and answers as its view does', async () => {
  const path = await halved()
  const model = await openModel(path)
  const bench = { ...open(), model, calibration: open().calibration.slice(0, 4) }
  const sliced = await prune(slicegpt, bench, { sparsity: 0.25 })
  const repaired = await replaceAll(model, removeParts(densePlan(model.spec), [2, 5]))
  for (const [method, { plan, tensors }] of Object.entries({ sliced, repaired })) {
    const view = viewWithPlan(model, plan, tensors)
    const expected = await logitsOf(view, window)
    view.dispose()
    const target = join(folder, method)
    await exact.write({ model, plan, method, folder: target, ...(tensors ? { tensors } : {}) })
    const size = async (at: string) => (await stat(join(at, 'model.safetensors'))).size
    expect(await size(target)).toBeLessThan(await size(path))
    const reopened = await openModel(target)
    expect(new Set([...reopened.checkpoint.tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['BF16']))
    expect(relativeError((await logitsOf(denseView(reopened), window)).flat(), expected.flat())).toBeLessThan(1e-6)
    await reopened.close()
  }
  await model.close()
})

test('replaced projections change the answer, and leave no tensor behind', async () => {
  const { model } = open()
  const dense = await logitsOf(denseView(model), window)
  const before = memory().numTensors
  const { plan, tensors } = await replaceAll(model, densePlan(model.spec))
  const view = viewWithPlan(model, plan, tensors)
  expect(relativeError((await logitsOf(view, window)).flat(), dense.flat())).toBeGreaterThan(0.1)
  view.dispose()
  expect(relativeError((await logitsOf(denseView(model), window)).flat(), dense.flat())).toBe(0)
  expect(memory().numTensors).toBe(before)
})

test('tensors that are missing, misshapen, of a removed part or of a bias that is not there are refused by name', async () => {
  const { model } = open()
  const { plan, tensors } = await replaceAll(model, densePlan(model.spec))
  const name = replacedName(0, 'down', 'weight')
  expect(() => viewWithPlan(model, plan)).toThrow(`"${replacedName(0, 'output', 'weight')}" is missing`)
  const wrong = await storeTensors({ tensors: new Map([[name, { values: new Float32Array(6), shape: [2, 3] }]]) })
  expect(() => viewWithPlan(model, plan, StoredTensors.join(tensors, wrong.tensors))).toThrow(`"${name}" has shape [2, 3]`)
  expect(() => viewWithPlan(model, removeParts(plan, [1]), tensors)).toThrow('the down projection of block 0: it is removed')
  const bias = new Map([[replacedName(0, 'down', 'bias'), { values: new Float32Array(64), shape: [64] }]])
  const joined = StoredTensors.join(tensors, (await storeTensors({ tensors: bias })).tensors)
  expect(() => viewWithPlan(model, plan, joined)).toThrow('llama family has no bias there')
})

test('a changed or missing tensor file is noticed before it is used', async () => {
  const { model } = open()
  const values = Float32Array.of(1, 2)
  const entry = await writeTensorFile(tensorFolder(), new Map([['x', { values, shape: [2] }]]))
  expect(await (await StoredTensors.open([entry])).readFloat32('x')).toEqual(values)
  const damaged = { ...entry, sha256: '0'.repeat(64) }
  await expect(openView(model, { ...densePlan(model.spec), tensors: [damaged] })).rejects.toThrow('missing or damaged')
  await rm(entry.file)
  await expect(StoredTensors.open([entry])).rejects.toThrow('missing or damaged')
})
