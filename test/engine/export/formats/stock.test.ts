import { mkdirSync } from 'node:fs'
import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { writeShards } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { exact } from '#engine/export/exact/exact.ts'
import { stock } from '#engine/export/formats/stock.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { type FamilyModel, familyModels, referenceModel, referenceWindows } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'

const home = scratchFolder('stock')
let window: Int32Array
beforeAll(async () => {
  await openBackend('tensorflow')
  window = (await referenceWindows('test'))[0]?.subarray(0, 150) as Int32Array
})

const readJson = async (...path: string[]) => JSON.parse(await readFile(join(...path), 'utf8')) as Record<string, unknown>

/** Saves and reopens a model without the attention of block 2, the MLP of block 1 and block 0. */
async function saveAndReopen(source: string, name: string) {
  const model = await openModel(source)
  const plan = removeParts(densePlan(model.spec), [0, 1, 3, 4])
  const view = viewWithPlan(model, plan)
  const expected = (await logitsOf(view, window)).flat()
  const folder = join(home, name)
  await stock.write({ model, plan, method: 'test', folder })
  const reopened = await openModel(folder)
  const error = relativeError((await logitsOf(denseView(reopened), window)).flat(), expected)
  const { family } = reopened.spec
  await reopened.close()
  await model.close()
  return { folder, error, family }
}

/** The same model as one part of a larger one, with the tensor names of published files. */
async function wrapped(name: FamilyModel, modelType: string, prefix: string): Promise<string> {
  const model = await openModel(await referenceModel(name))
  const folder = join(home, `wrapped ${name}`)
  mkdirSync(folder)
  const { tensors, config } = model.checkpoint
  const renamed = [...tensors.values()].map((info) => ({
    ...info,
    name: info.name.replace(/^model\./, prefix),
    bytes: () => model.checkpoint.read(info.name),
  }))
  const vision = { name: 'vision_tower.patch.weight', dtype: 'F32' as const, shape: [1], bytes: () => new Uint8Array(4) }
  await writeShards(folder, [...renamed, vision])
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: modelType, text_config: config, vision_config: {} }))
  await model.close()
  return folder
}

describe('a stock folder', () => {
  it.each(familyModels)('of %s gives the logits of the pruned model, and lists of its config follow the blocks', async (name) => {
    const { folder, error } = await saveAndReopen(await referenceModel(name), name)
    expect(error).toBeLessThan(2e-6)
    const { num_hidden_layers: count, layer_types: types, no_rope_layers: rotated } = await readJson(folder, 'config.json')
    for (const list of [types, rotated]) if (list !== undefined) expect(list).toHaveLength(count as number)
  })

  it.each([
    ['gemma3', 'gemma3', 'language_model.model.', 'gemma3_text'],
    ['qwen3_5', 'qwen3_5', 'model.language_model.', 'qwen3_5_text'],
  ] as const)('of %s with images is the text model by itself', async (name, modelType, prefix, text) => {
    const { folder, error, family } = await saveAndReopen(await wrapped(name, modelType, prefix), `saved ${name}`)
    expect(error).toBeLessThan(2e-6)
    expect(family).toBe(text)
    const config = await readJson(folder, 'config.json')
    expect(config.text_config ?? config.vision_config).toBeUndefined()
    expect(await readFile(join(folder, 'README.md'), 'utf8')).toContain('It has only the text part of the model')
  })

  it.each([
    ['stock', stock],
    ['exact', exact],
  ])('and %s take over nothing by which a loader runs code of the source', async (name, format) => {
    const source = join(home, `hostile ${name}`)
    await cp(await referenceModel('qwen3'), source, { recursive: true })
    const auto_map = { AutoConfig: 'org/evil--evil.Config', AutoModelForCausalLM: 'evil.Model' }
    const hostile = {
      auto_map,
      custom_pipelines: { x: { impl: 'evil.Pipe' } },
      _attn_implementation: 'org/kernel',
      sub_config: { auto_map },
    }
    await writeFile(join(source, 'config.json'), JSON.stringify({ ...(await readJson(source, 'config.json')), ...hostile }))
    const inner = { init: [{ auto_map, kept: 1 }] }
    await writeFile(join(source, 'tokenizer_config.json'), JSON.stringify({ auto_map: { AutoTokenizer: ['evil.T', null] }, ...inner }))
    await writeFile(join(source, 'generation_config.json'), '{"custom_generate": "org/evil", "eos_token_id": 2}')
    await writeFile(join(source, 'special_tokens_map.json'), '{ "bos_token":   "<s>" }')
    for (const file of ['tokenizer_evil.py', 'license.py']) await writeFile(join(source, file), 'print(1)')
    const model = await openModel(source)
    const folder = join(home, `cleaned ${name}`)
    await format.write({ model, plan: densePlan(model.spec), method: '2ssp', folder })
    await model.close()
    for (const file of ['config.json', 'tokenizer_config.json', 'generation_config.json'])
      expect(await readFile(join(folder, file), 'utf8'), file).not.toMatch(/evil|org\/kernel/)
    expect(await readJson(folder, 'tokenizer_config.json')).toEqual({ init: [{ kept: 1 }] })
    expect(await readFile(join(folder, 'special_tokens_map.json'), 'utf8')).toBe('{ "bos_token":   "<s>" }')
    expect((await readdir(folder)).filter((file) => file.endsWith('.py'))).toEqual(name === 'exact' ? ['modeling_espalier.py'] : [])
  })

  it('keeps the decimals of a config, what belongs to the model, and its shards', async () => {
    const source = await referenceModel('granite')
    const whole = await openModel(source)
    const sharded = join(home, 'sharded')
    mkdirSync(join(sharded, 'additional_chat_templates'), { recursive: true })
    const tensors = [...whole.checkpoint.tensors.values()]
    await writeShards(
      sharded,
      tensors.map((info) => ({ ...info, bytes: () => whole.checkpoint.read(info.name) })),
      150_000,
    )
    await whole.close()
    await writeFile(join(sharded, 'config.json'), await readFile(join(source, 'config.json')))
    const companions = ['tekken.json', 'spiece.model', 'LICENCE', 'license.txt', 'USE_POLICY.md', 'Acceptable_Use_Policy.md', 'Notice']
    for (const name of [...companions, 'additional_chat_templates/tools.jinja', 'train.log'])
      await writeFile(join(sharded, name), `what ${name} says`)
    await writeFile(join(sharded, 'README.md'), '---\nlicense: "apache-2.0"\nlicense_link: https://example.org/l\n---\n# Granite\n')
    const model = await openModel(sharded)
    const folder = join(home, 'sharded again')
    const run = {
      seed: 7,
      baseModel: 'ibm/granite-tiny',
      calibration: [{ source: 'c4', windows: 8, sequenceLength: 256 }],
      repair: null,
      recovery: null,
      weights: null,
      measures: [{ name: 'perplexity', dataset: 'wikitext2', before: 10.5, after: 12.25 }],
    }
    await stock.write({ model, plan: densePlan(model.spec), method: '2ssp', run, folder })
    const written = await readdir(folder)
    for (const name of [...companions, 'additional_chat_templates', 'model.safetensors.index.json']) expect(written).toContain(name)
    expect(written).not.toContain('train.log')
    expect(written.filter((name) => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name)).length).toBeGreaterThan(3)
    const config = await readFile(join(folder, 'config.json'), 'utf8')
    expect(config).toContain('"embedding_multiplier": 3.0')
    expect(config).toContain('"rope_theta": 10000.0')
    const card = await readFile(join(folder, 'README.md'), 'utf8')
    expect(card.slice(0, card.indexOf('\n---\n'))).toBe(
      '---\nlicense: "apache-2.0"\nlicense_link: "https://example.org/l"\nbase_model: "ibm/granite-tiny"\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n  - "pruned"\n  - "espalier"\n  - "2ssp"',
    )
    for (const part of ['method 2ssp', 'Seed 7', '8 windows of 256 tokens of c4', '| perplexity on wikitext2 | 10.5000 | 12.2500 |'])
      expect(card).toContain(part)
    const reopened = await openModel(folder)
    expect(relativeError((await logitsOf(denseView(reopened), window)).flat(), (await logitsOf(denseView(model), window)).flat())).toBe(0)
    await reopened.close()
    await model.close()
  })
})
