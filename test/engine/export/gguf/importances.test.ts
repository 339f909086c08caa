import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { readHeader } from '#engine/checkpoint/gguf/header.ts'
import { blockTypeNamed, decodeBlocks } from '#engine/checkpoint/gguf/value-blocks.ts'
import { readBytes } from '#engine/checkpoint/regular-file.ts'
import { StoredTensors, writeTensorFile } from '#engine/checkpoint/stored-tensors.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { fromTensors, measureImportances, toTensors } from '#engine/export/gguf/importances.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { openRegular } from '#runtime/small-file.ts'
import { referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const home = scratchFolder('importances')
let model: Model
let windows: Int32Array[]
beforeAll(async () => {
  await openBackend('tensorflow')
  model = await openModel(await referenceModel('stories260k'))
  windows = (await referenceWindows('calibration')).slice(0, 8).map((window) => window.slice(0, 64))
})
afterAll(() => model.close())

/** Keeps neurons 0 to 99 of every MLP, and removes the attention of block 0. */
function somePlan() {
  const plan = densePlan(model.spec)
  const blocks = plan.blocks.map((block, index) => ({
    ...block,
    ...(index === 0 ? { attention: 'removed' as const } : {}),
    mlp: { kept: Array.from({ length: 100 }, (_, i) => i) },
  }))
  return { ...plan, blocks }
}

describe('importances', () => {
  it("are mean squares of a projection's inputs", async () => {
    const { blocks, tokens } = await measureImportances(denseView(model), windows, ['numbers'])
    const embedding = await model.checkpoint.readFloat32('model.embed_tokens.weight')
    const weight = await model.checkpoint.readFloat32('model.layers.0.input_layernorm.weight')
    const size = weight.length
    const expected = new Float64Array(size)
    for (const id of windows.flatMap((window) => [...window])) {
      const row = embedding.subarray(id * size, (id + 1) * size)
      const square = row.reduce((sum, value) => sum + value * value, 0) / size + 1e-5
      row.forEach((value, i) => {
        expected[i] = (expected[i] as number) + (value * (weight[i] as number)) ** 2 / square / tokens
      })
    }
    const found = blocks[0]?.attention?.input ?? []
    expect(found).toHaveLength(size)
    found.forEach((value, i) => {
      expect(Math.abs(value / (expected[i] as number) - 1)).toBeLessThan(1e-4)
    })
  })

  it('follow the tensors of a pruned model, and hardly count padding', async () => {
    const plan = somePlan()
    const view = viewWithPlan(model, plan)
    const importances = await measureImportances(view, windows, ['numbers'])
    view.dispose()
    const { weighed, tensors } = layOutGguf({ model, plan }, 'Q4_0', importances)
    for (const [name, values] of weighed)
      expect([name, values.length]).toEqual([name, tensors.find((tensor) => tensor.name === name)?.shape[1]])
    expect(weighed.get('blk.0.ffn_down.weight')?.slice(0, 100)).toEqual(importances.blocks[0]?.mlp?.inner)
    expect(weighed.get('blk.0.ffn_down.weight')?.[120]).toBeLessThan(1e-3 * (importances.blocks[0]?.mlp?.inner?.[0] ?? 0))
    expect(weighed.get('blk.0.attn_q.weight')?.every((value) => value === 1)).toBe(true)
    expect(layOutGguf({ model, plan }, 'Q8_0', importances).weighed.size).toBe(0)
  })

  it('make a file of few bits answer better, and are saved next to it for other tools', async () => {
    const importances = await measureImportances(denseView(model), windows, ['numbers'])
    const request = { model, plan: densePlan(model.spec), method: 'dense', ggufTypes: ['Q2_K'] }
    const test = (await referenceWindows('test')).slice(0, 8)
    const fileOf = async (folder: string, ending: string) =>
      join(folder, (await readdir(folder)).find((name) => name.endsWith(ending)) ?? '')
    const measured = async (name: string, more: object) => {
      await gguf.write({ ...request, ...more, folder: join(home, name) })
      const saved = await openModel(await fileOf(join(home, name), '.gguf'))
      const found = (await perplexity(denseView(saved), test)).perplexity
      await saved.close()
      return found
    }
    expect(await measured('weighed', { importances })).toBeLessThan(await measured('plain', {}))
    expect((await readdir(join(home, 'plain'))).filter((name) => name.endsWith('.imatrix'))).toEqual([])
    const path = await fileOf(join(home, 'weighed'), '.imatrix')
    const handle = await openRegular(path)
    const { metadata, tensors } = await readHeader(handle, path)
    expect(metadata.get('general.type')).toBe('imatrix')
    const valuesOf = async (name: string) => {
      const tensor = tensors.get(name)
      return tensor ? decodeBlocks(await readBytes(handle, tensor.begin, tensor.bytes, path), blockTypeNamed('F32')) : []
    }
    const [sums, [count = 0]] = [await valuesOf('blk.2.ffn_up.weight.in_sum2'), await valuesOf('blk.2.ffn_up.weight.counts')]
    expect(count).toBe(8 * 64)
    expect(Float32Array.from(sums, (sum) => sum / count)).toEqual(importances.blocks[2]?.mlp?.input)
    await handle.close()
    expect((await readFile(path)).subarray(0, 4).toString()).toBe('GGUF')
  })
})

it('comes back from a file of tensors as it was measured, with the experts that were never chosen', async () => {
  const columns = (...values: number[]) => Float32Array.from(values)
  const blocks = [
    { attention: { input: columns(1, 2), inner: columns(3) }, mlp: { input: columns(4), inner: columns(5, 6) } },
    {
      attention: { input: columns(7), inner: columns(8) },
      mlp: { input: columns(9) },
      experts: [{ input: columns() }, { input: columns(1), inner: columns(2) }],
    },
  ]
  const file = await writeTensorFile(home, toTensors({ blocks, texts: [], tokens: 1 }))
  expect(fromTensors(await StoredTensors.open([file]), blocks.length)).toEqual(blocks)
})
