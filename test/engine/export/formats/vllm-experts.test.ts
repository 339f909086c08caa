import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { openCheckpoint } from '#engine/checkpoint/open-checkpoint.ts'
import { vllmExperts } from '#engine/export/formats/vllm-experts.ts'
import { openModel, openSpec } from '#engine/model/model.ts'
import { constantsName } from '#engine/model/views/plan-tensors.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { storeTensors } from '../../../fixtures/store-tensors.ts'

const home = scratchFolder('vllm')
beforeAll(async () => {
  await openBackend('tensorflow')
})

test('experts that stay keep their names, vectors have one tensor each, and wrong lists of them are refused', async () => {
  const model = await openModel(await referenceModel('qwen3_moe'))
  const { hidden } = model.spec
  const dense = densePlan(model.spec)
  const uneven: Plan = {
    blocks: dense.blocks.map((block, index) =>
      index === 1 ? { ...block, mlp: { kept: 'all', experts: [0, 2, 3, 4, 5, 7], constants: [1, 6] } } : block,
    ),
  }
  const { tensors } = await storeTensors({
    tensors: new Map([[constantsName(1), { shape: [2, hidden], values: Float32Array.from({ length: 2 * hidden }, (_, i) => i) }]]),
  })
  const folder = join(home, 'saved')
  await vllmExperts.write({ model, plan: uneven, tensors, method: 'test', folder })
  await expect(vllmExperts.outline({ model, plan: dense }, '')).rejects.toThrow(/none of its experts is a constant. Choose stock/)
  const before = [...model.checkpoint.tensors.keys()]
  await model.close()

  const saved = await openCheckpoint(folder)
  expect(saved.config).toMatchObject({ num_experts: 8, approximate_experts: { 1: [1, 6] } })
  const place = 'model.layers.1.mlp'
  const gone = before.filter((name) => /layers\.1\.mlp\.experts\.[16]\./.test(name))
  const vectors = [1, 6].map((expert) => `${place}.experts.${expert}.approx_value`)
  expect([...saved.tensors.keys()].sort()).toEqual([...before.filter((name) => !gone.includes(name)), ...vectors].sort())
  expect(saved.tensors.get(`${place}.gate.weight`)?.shape[0]).toBe(8)
  expect([...(await saved.readFloat32(vectors[1] as string))].slice(0, 2)).toEqual([hidden, hidden + 1])
  await saved.close()

  const file = join(folder, 'config.json')
  const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  const wrong: [unknown, RegExp][] = [
    [[1], /must list numbers of experts by block/],
    [{ '01': [1] }, /must list numbers of experts by block/],
    [{ 9: [1] }, /names block 9, which is not a mixture/],
    [{ 1: [8] }, /lists 8 in block 1\. List numbers below 8/],
    [{ 1: [1, 1] }, /each once/],
    [{ 1: [0, 1, 2, 3, 4, 5, 6, 7] }, /not all/],
    [{ 1: [1, 5] }, /experts\.5\.approx_value/],
  ]
  for (const [approximate_experts, says] of wrong) {
    await writeFile(file, JSON.stringify({ ...config, approximate_experts }))
    await expect(openSpec(folder)).rejects.toThrow(says)
  }
})
