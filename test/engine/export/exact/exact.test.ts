import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { moduleFile } from '#engine/export/exact/module.ts'
import { stock } from '#engine/export/formats/stock.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'

const folder = scratchFolder('exact')
let window: Int32Array
beforeAll(async () => {
  await openBackend('tensorflow')
  window = (await referenceWindows('test'))[0]?.subarray(0, 60) as Int32Array
})

const readJson = async (path: string, name: string) => JSON.parse(await readFile(join(path, name), 'utf8')) as Record<string, unknown>

async function withModel(name: Parameters<typeof referenceModel>[0], use: (model: Model) => Promise<void>): Promise<void> {
  const model = await openModel(await referenceModel(name))
  try {
    await use(model)
  } finally {
    await model.close()
  }
}

async function logitsAt(path: string): Promise<number[]> {
  const model = await openModel(path)
  try {
    return (await logitsOf(denseView(model), window)).flat()
  } finally {
    await model.close()
  }
}

test('the folder has a model_type of its own and a module that says what is left, block by block', () =>
  withModel('qwen2-tiny', async (model) => {
    const plan = removeParts(densePlan(model.spec), [0, 3, 4, 5])
    const block = plan.blocks[0]
    if (block) block.mlp = { kept: [0, 5, 7] }
    const target = join(folder, 'module')
    await exact.write({ model, plan, method: 'evopress_submodule', folder: target })
    const config = await readJson(target, 'config.json')
    expect(config).toMatchObject({
      model_type: 'espalier_qwen2',
      architectures: ['PrunedForCausalLM'],
      auto_map: { AutoConfig: 'modeling_espalier.PrunedConfig', AutoModelForCausalLM: 'modeling_espalier.PrunedForCausalLM' },
      num_hidden_layers: model.spec.blocks.length - 1,
    })
    expect((config.blocks_left as unknown[])[0]).toEqual({ attention: false, mlp: 3 })
    const module = await readFile(join(target, moduleFile), 'utf8')
    expect(module).toContain('qwen2-tiny, pruned with Espalier by evopress_submodule')
    expect(module).toMatch(/^ {4}0 {2}none +3 of 176 neurons of block 0$/m)
    expect(module).toMatch(/^ {4}1 {2}of block 1 +none$/m)
    expect(module).toMatch(/^ {4}2 {2}of block 3 /m)
    expect(module).toContain('CONFIG_MAPPING["qwen2"]')
    expect((await describeModel(target)).format).toBe('exact')
  }))

test('a norm that attention and MLP share stays when one of them is removed', () =>
  withModel('phi-tiny', async (model) => {
    const target = join(folder, 'shared')
    await exact.write({ model, plan: removeParts(densePlan(model.spec), [0]), method: 'test', folder: target })
    const module = await readFile(join(target, moduleFile), 'utf8')
    expect(module).not.toContain('"input_layernorm"')
    expect(module).toContain('for norm in ():')
  }))

test("a model's name cannot end the module's text and begin code", () =>
  withModel('stories260k', async (model) => {
    const target = join(folder, 'named')
    const named = { ...model, name: 'x"""\nimport os\n\\' }
    await exact.write({ model: named, plan: removeParts(densePlan(model.spec), [0]), method: 'test', folder: target })
    const module = await readFile(join(target, moduleFile), 'utf8')
    const [, text = '', code = ''] = module.split('"""', 3)
    expect(text).toContain('import os')
    expect(code).toMatch(/^\s+import copy\s/)
    expect(module).not.toContain('\\')
  }))

test('a folder that was saved is pruned again, and leaves as a model of its family', () =>
  withModel('llama-headdim', async (model) => {
    const first = join(folder, 'first')
    await exact.write({ model, plan: removeParts(densePlan(model.spec), [0, 3]), method: 'test', folder: first })
    const again = await openModel(first)
    const plan = removeParts(densePlan(again.spec), [1])
    const view = viewWithPlan(again, plan)
    const expected = (await logitsOf(view, window)).flat()
    view.dispose()
    const [second, plain] = [join(folder, 'second'), join(folder, 'plain')]
    await exact.write({ model: again, plan, method: 'test', folder: second })
    await stock.write({ model: again, plan, method: 'test', folder: plain })
    await again.close()
    expect(relativeError(await logitsAt(second), expected)).toBeLessThan(1e-6)
    expect(relativeError(await logitsAt(plain), expected)).toBeLessThan(1e-6)
    expect(await readJson(second, 'config.json')).toMatchObject({ model_type: 'espalier_llama' })
    const config = await readJson(plain, 'config.json')
    expect(config).toMatchObject({ model_type: 'llama', architectures: ['LlamaForCausalLM'] })
    expect(Object.keys(config)).not.toEqual(expect.arrayContaining(['auto_map']))
    expect(config).not.toHaveProperty('blocks_left')
  }))

test('folders with the family in config.json, as they were written before, still open', () =>
  withModel('stories260k', async (model) => {
    const target = join(folder, 'older')
    await exact.write({ model, plan: removeParts(densePlan(model.spec), [2, 5]), method: 'test', folder: target })
    const expected = await logitsAt(target)
    const { family: _, ...layout } = await readJson(target, 'espalier.json')
    await writeFile(join(target, 'espalier.json'), JSON.stringify(layout))
    await writeFile(join(target, 'config.json'), JSON.stringify(model.checkpoint.config))
    await rm(join(target, moduleFile))
    expect(await logitsAt(target)).toEqual(expected)
    expect((await describeModel(target)).format).toBe('espalier')
  }))

test('a plan without any attention of the kind that the cache needs is refused, with the format that can hold it', () =>
  withModel('gemma2', async (model) => {
    const kinds = model.checkpoint.config.layer_types as string[]
    const plan = removeParts(
      densePlan(model.spec),
      kinds.flatMap((kind, block) => (kind === kinds[0] ? [2 * block] : [])),
    )
    await expect(exact.write({ model, plan, method: 'test', folder: join(folder, 'no') })).rejects.toThrow('Choose the format stock')
  }))
