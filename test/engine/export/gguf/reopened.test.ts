import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { shardNames, writeGgufShards } from '#engine/checkpoint/gguf/write-gguf.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { findFormat } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import { denseView, openView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { type ReferenceModel, referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { hostIn } from '../../../fixtures/run-host.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'

const home = scratchFolder('reopened')
let window: Int32Array
beforeAll(async () => {
  await openBackend('tensorflow')
  const windows = await referenceWindows('calibration')
  window = (await referenceWindows('test'))[0]?.subarray(0, 100) as Int32Array
  await writeFile(join(home, 'windows.json'), JSON.stringify(windows.slice(0, 4).map((one) => [...one.subarray(0, 64)])))
})

async function prune(model: string, method: string, amount: { sparsity: number } | { blocks: number }) {
  const calibration = { source: join(home, 'windows.json'), sequenceLength: 64, windows: 4 }
  const request = { model, method, amount, options: { windows: 4 }, seed: 0, calibration, measures: [], backend: 'tensorflow' as const }
  const { plan, decisions } = await executeRun(request, hostIn(home))
  return { plan, decisions: decisions.map(({ kind, block }) => `${kind} ${block}`) }
}

/** Saves a model without some submodules in a format; returns the file or folder to open. */
async function saved(name: ReferenceModel, removed: readonly number[], format: 'gguf' | 'exact'): Promise<string> {
  const model = await openModel(await referenceModel(name))
  const folder = join(home, `${name}-${removed.join('-')}-${format}`)
  await findFormat(format).write({ model, plan: removeParts(densePlan(model.spec), removed), method: 'first', folder, ggufTypes: ['F32'] })
  await model.close()
  return format === 'exact' ? folder : join(folder, (await readdir(folder)).find((entry) => entry.endsWith('.gguf')) as string)
}

const onceMore = [
  // Attention of blocks 0 and 3: the file replaces the first by a head of zeros.
  { architecture: 'deci', name: 'stories260k', removed: [0, 6], method: '2ssp', amount: { sparsity: 0.4 } },
  { architecture: 'deci', name: 'stories260k', removed: [0, 3], method: 'blockpruner_submodule', amount: { blocks: 1 } },
  { architecture: 'openelm', name: 'qwen3-tied', removed: [4], method: '2ssp', amount: { sparsity: 0.4 } },
  // The MLP of block 1 and the attention of block 2: what is left of both fits into one block.
  { architecture: 'llama', name: 'stories260k', removed: [3, 4], method: 'blockpruner_submodule', amount: { blocks: 1 } },
] as const

describe('a pruned GGUF file that is opened again', () => {
  it.each(onceMore)(
    'is pruned further like the exact folder of the same model: $architecture, $method',
    async ({ architecture, name, removed, method, amount }) => {
      const [file, folder] = [await saved(name, removed, 'gguf'), await saved(name, removed, 'exact')]
      const again = await prune(file, method, amount)
      expect(again).toEqual(await prune(folder, method, amount))
      expect(again.decisions.length).toBeGreaterThan(0)
      const reopened = await openModel(file)
      expect(layOutGguf({ model: reopened, plan: densePlan(reopened.spec) }, 'F32').architecture).toBe(architecture)
      const view = await openView(reopened, again.plan)
      const target = join(home, `${name}-${removed.join('-')}-${method}`)
      await findFormat('gguf').write({ model: reopened, plan: again.plan, method, folder: target, ggufTypes: ['F32'] })
      const twice = await openModel(target)
      const found = (await logitsOf(denseView(twice), window)).flat()
      expect(relativeError(found, (await logitsOf(view, window)).flat())).toBeLessThan(2e-6)
      await twice.close()
      view.dispose()
      await reopened.close()
    },
  )

  it.each([
    { name: 'stories260k', type: 'F16', bound: 5e-4 },
    // All blocks alike, as wide as in the dense model.
    { name: 'stories260k', type: 'F16', bound: 5e-4, whole: true },
    { name: 'stories260k', type: 'Q8_0', bound: 1e-2 },
    // Gate and up are halves of one tensor.
    { name: 'phi3-tiny', type: 'F16', bound: 5e-4 },
    // Blocks of this family cannot differ in the file, and its projections have biases.
    { name: 'phi-tiny', type: 'F16', bound: 5e-4 },
  ] as const)("in $type has the plan's widths, though zeros fill the file's up: $name", async ({ name, type, bound, ...rest }) => {
    const model = await openModel(await referenceModel(name))
    const kept = (index: number) => Array.from({ length: 75 + 9 * index }, (_, neuron) => 2 * neuron)
    const dense = densePlan(model.spec)
    const narrow = { ...dense, blocks: dense.blocks.map((block, index) => ({ ...block, mlp: { kept: kept(index % 2) } })) }
    const last = dense.blocks.length - 1
    const plan = 'whole' in rest ? dense : removeParts(narrow, [2 * last + 1])
    const widths = specWithPlan(model.spec, plan).blocks.map(({ width }) => width)
    const folder = join(home, `${name}-${type}-${'whole' in rest}`)
    await findFormat('gguf').write({ model, plan, method: 'first', folder, ggufTypes: [type] })
    const reopened = await openModel(join(folder, (await readdir(folder)).find((entry) => entry.endsWith('.gguf')) as string))
    expect(reopened.spec.blocks.map(({ width }) => width)).toEqual(widths)
    const again = layOutGguf({ model: reopened, plan: densePlan(reopened.spec) }, type)
    expect(again.tensors.filter(({ name }) => name.includes('ffn_down.weight')).map(({ shape }) => (shape[1] as number) % 32)).toEqual(
      widths.map(() => 0),
    )
    const view = viewWithPlan(model, plan)
    const [found, expected] = [(await perplexity(denseView(reopened), [window])).perplexity, (await perplexity(view, [window])).perplexity]
    expect(Math.abs(found / expected - 1)).toBeLessThan(bound)
    view.dispose()
    await reopened.close()
    await model.close()
  })

  it('in parts of a limited size gives the logits of the whole, and no part is larger than a tensor makes it', async () => {
    const model = await openModel(await referenceModel('stories260k'))
    const plan = removeParts(densePlan(model.spec), [0, 3])
    const { metadata, tensors } = layOutGguf({ model, plan }, 'F32')
    const limit = 100_000
    await writeGgufShards(home, 'parts', { metadata, tensors }, limit)
    const names = shardNames('parts', tensors, limit)
    expect(names.length).toBeGreaterThan(3)
    expect(names[0]).toBe(`parts-00001-of-${String(names.length).padStart(5, '0')}.gguf`)
    expect((await readdir(home)).filter((name) => name.startsWith('parts-')).sort()).toEqual(names)
    const largest = Math.max(...tensors.map(({ shape }) => 4 * shape.reduce((a, b) => a * b, 1)))
    for (const name of names.slice(1)) expect((await stat(join(home, name))).size).toBeLessThan(Math.max(limit, largest) + 10_000)
    const reopened = await openModel(join(home, names[0] as string))
    const view = viewWithPlan(model, plan)
    const [found, expected] = [await logitsOf(denseView(reopened), window), await logitsOf(view, window)]
    expect(relativeError(found.flat(), expected.flat())).toBeLessThan(2e-6)
    view.dispose()
    await reopened.close()
    await model.close()
  })
})
