import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import type { GgufType } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readHeader } from '#engine/checkpoint/gguf/header.ts'
import { readBytes } from '#engine/checkpoint/regular-file.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { narrowPlan } from '#engine/pruning/methods/2ssp.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { openRegular } from '#runtime/small-file.ts'
import { type MixtureModel, referenceModel } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { writeSeededModel } from '../../../fixtures/seeded-model.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'

const window = Int32Array.from({ length: 40 }, (_, i) => (i * 37) % 512)
const home = scratchFolder('gguf-mixtures')
let quantised: Model
beforeAll(async () => {
  await openBackend('tensorflow')
  const sizes = { type: 'qwen2_moe', hidden: 256, intermediate: 256, heads: 4, keyValueHeads: 4, blocks: 2, experts: 4 } as const
  const model = await openModel(await writeSeededModel(join(home, 'source'), sizes))
  quantised = await openModel(await write(model, densePlan(model.spec), 'Q4_K_M'))
  await model.close()
})
afterAll(() => quantised.close())

/** Writes a plan's file; returns its path. */
async function write(model: Model, plan: Plan, type: GgufType): Promise<string> {
  const folder = await mkdtemp(join(home, 'written-'))
  await gguf.write({ model, plan, method: 'test', folder, replace: true, ggufTypes: [type] })
  return join(folder, (await readdir(folder)).find((name) => name.endsWith('.gguf')) ?? '')
}

/** A plan that keeps these experts in every block. */
const keeping = (model: Model, experts: number[]): Plan => ({
  blocks: densePlan(model.spec).blocks.map((block) => ({ ...block, mlp: { kept: 'all', experts } })),
})

async function tensorsOf(file: string) {
  const handle = await openRegular(file)
  const { tensors } = await readHeader(handle, file)
  const read = async ({ begin, bytes }: { begin: number; bytes: number }) => Buffer.from(await readBytes(handle, begin, bytes, file))
  const all = await Promise.all(
    [...tensors.values()].map(async (tensor) => [tensor.name, { ...tensor, data: await read(tensor) }] as const),
  )
  await handle.close()
  return new Map(all)
}

test('a quantised file loses experts without being quantised again: the other bytes are the same', async () => {
  const kept = [0, 3]
  const plan = keeping(quantised, kept)
  const [before, after] = [await tensorsOf(quantised.path), await tensorsOf(await write(quantised, plan, 'SOURCE'))]
  expect([...after.keys()]).toEqual([...before.keys()])
  expect(new Set([...after.values()].map(({ type }) => type.name))).toEqual(new Set(['Q6_K', 'F32', 'Q4_K']))
  for (const [name, { data, shape, type }] of before) {
    const each = data.length / (shape[0] ?? 1)
    const cut = /_exps|ffn_gate_inp\.weight/.test(name)
    const expected = cut ? Buffer.concat(kept.map((expert) => data.subarray(expert * each, (expert + 1) * each))) : data
    expect([name, after.get(name)?.type.name, after.get(name)?.data.equals(expected)]).toEqual([name, type.name, true])
  }
})

test('what was cut from a quantised file answers as the plan did, and any type keeps bytes that have it already', async () => {
  const plan = keeping(quantised, [1, 2])
  const view = viewWithPlan(quantised, plan)
  const expected = await logitsOf(view, window)
  view.dispose()
  for (const type of ['SOURCE', 'Q4_K_M'] as const) {
    const reopened = await openModel(await write(quantised, plan, type))
    expect(reopened.spec.family).toBe('qwen2_moe')
    expect(await logitsOf(denseView(reopened), window)).toEqual(expected)
    await reopened.close()
  }
})

test('experts in MXFP4 go from a folder to a file and lose some there, without being quantised again', async () => {
  const packed = await openModel(await referenceModel('gpt_oss-mxfp4'))
  const file = await write(packed, keeping(packed, [0, 1, 2, 4, 5, 7]), 'SOURCE')
  const view = viewWithPlan(packed, keeping(packed, [1, 4, 7]))
  const expected = await logitsOf(view, window)
  view.dispose()
  await packed.close()
  const types = [...(await tensorsOf(file)).values()].map(({ name, type }) => `${/_exps\.weight/.test(name)} ${type.name}`)
  expect(new Set(types)).toEqual(new Set(['true MXFP4', 'false F32']))
  const first = await openModel(file)
  const again = await openModel(await write(first, keeping(first, [1, 3, 5]), 'SOURCE'))
  await first.close()
  const found = await logitsOf(denseView(again), window)
  await again.close()
  expect(relativeError(found.flat(), expected.flat())).toBeLessThan(2e-6)
})

test("a file of Qwen3.5 loses experts in its own types, and what a DeltaNet's file rearranges stays", async () => {
  const model = await openModel(await referenceModel('qwen3_5_moe'))
  const first = await openModel(await write(model, densePlan(model.spec), 'F32'))
  const plan = keeping(model, [0, 2, 5])
  const [view, before] = [viewWithPlan(model, plan), await tensorsOf(first.path)]
  const expected = await logitsOf(view, window)
  view.dispose()
  await model.close()
  const file = await write(first, plan, 'SOURCE')
  await first.close()
  const again = await openModel(file)
  expect(relativeError((await logitsOf(denseView(again), window)).flat(), expected.flat())).toBeLessThan(2e-6)
  await again.close()
  const after = await tensorsOf(file)
  expect([...after.keys()]).toEqual([...before.keys()])
  const changed = [...before]
    .filter(([name, { data }]) => !after.get(name)?.data.equals(data))
    .map(([name]) => name.replace(/^blk\.\d+\./, ''))
  expect(new Set(changed)).toEqual(new Set(['ffn_gate_inp.weight', 'ffn_gate_exps.weight', 'ffn_up_exps.weight', 'ffn_down_exps.weight']))
})

test('what a file of llama.cpp cannot hold is refused with what to choose instead', async () => {
  const narrow: Plan = {
    blocks: densePlan(quantised.spec).blocks.map((block) => ({
      ...block,
      mlp: { kept: 'all', keptByExpert: Array.from({ length: 4 }, () => [0, 1]) },
    })),
  }
  expect(() => layOutGguf({ model: quantised, plan: narrow }, 'SOURCE')).toThrow(/neurons were cut.*gateCorrection=fitted.*MXFP4/)
  const [first, ...others] = keeping(quantised, [0, 1]).blocks
  const uneven = { blocks: [first, ...others.map((block) => ({ ...block, mlp: { kept: 'all', experts: [0, 1, 2] } }))] } as Plan
  expect(() => layOutGguf({ model: quantised, plan: uneven }, 'F16')).toThrow(
    /Blocks have different numbers of experts \(2, 3\).* Choose exact\./,
  )
  const refused = async (name: MixtureModel, plan: (model: Model) => Plan, type: GgufType) => {
    const model = await openModel(await referenceModel(name))
    try {
      layOutGguf({ model, plan: plan(model) }, type)
    } finally {
      await model.close()
    }
  }
  await expect(refused('qwen3_moe', (model) => densePlan(model.spec), 'SOURCE')).rejects.toThrow('this model is not a GGUF file')
  const narrower = refused('glm4_moe', ({ spec }) => narrowPlan(spec, 16), 'F16')
  await expect(narrower).rejects.toThrow(/one width for them and the shared expert.* Choose exact\./)
  const constant = (model: Model): Plan => ({
    blocks: densePlan(model.spec).blocks.map((block) => ({
      ...block,
      mlp: { kept: 'all', experts: [0, 1, 2, 3, 4, 5, 6], constants: [7] },
    })),
  })
  await expect(refused('qwen3_moe', constant, 'F16')).rejects.toThrow(/no place for.* Choose exact\./)
})

test.each([
  ['expert_count', 3, 'has 4 experts, but its metadata says 3'],
  ['expert_used_count', 5, 'more than the 4 experts'],
  ['expert_gating_func', 2, 'but routers of qwen2_moe have 1 or 3'],
  ['expert_feed_forward_length', 512, 'has 256 rows for each expert, but 512 are needed'],
])('a file whose %s says %d is refused by name', async (key, value, says) => {
  const bytes = await readFile(quantised.path)
  const name = `qwen2moe.${key}`
  const begin = bytes.indexOf(name)
  // The key, its type, and a 32-bit number.
  expect(begin).toBeGreaterThan(0)
  bytes.writeUInt32LE(value, begin + name.length + 4)
  const file = join(home, `${key}.gguf`)
  await writeFile(file, bytes)
  await expect(openModel(file)).rejects.toThrow(new RegExp(says))
})
