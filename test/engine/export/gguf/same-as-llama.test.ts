import { copyFile, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GgufType } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { type GgufTensor, readHeader } from '#engine/checkpoint/gguf/header.ts'
import { openRegular, readPart } from '#engine/checkpoint/regular-file.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { measureImportances } from '#engine/export/gguf/measure-importances.ts'
import { mixes, weighsErrors } from '#engine/export/gguf/mix.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { type ModelFiles, writeModelFiles } from '../../checkpoint/valid-model.ts'
import { quantiseByLlama } from './llama-quantiser.ts'

interface Sizes {
  readonly type: 'llama' | 'phi3'
  readonly hidden: number
  readonly intermediate: number
  readonly heads: number
  readonly keyValueHeads: number
  readonly blocks: number
}

/** Rows of 256 values, so that every type fits; heads are shared by four, eight blocks have a first eighth. */
const wide: Sizes = { type: 'llama', hidden: 256, intermediate: 256, heads: 8, keyValueHeads: 2, blocks: 8 }
/** Rows that only the types with blocks of 32 fit, each query with its own keys. */
const short: Sizes = { type: 'llama', hidden: 64, intermediate: 96, heads: 2, keyValueHeads: 2, blocks: 9 }
/** Queries, keys and values in one tensor, gate and up in another. */
const joined: Sizes = { type: 'phi3', hidden: 256, intermediate: 256, heads: 4, keyValueHeads: 4, blocks: 4 }

let home: string
beforeAll(async () => {
  await openBackend('tensorflow')
  home = await mkdtemp(join(tmpdir(), 'espalier-as-llama-'))
})
afterAll(() => rm(home, { recursive: true, force: true }))

/** A model of random weights in float32, with a tokenizer of 512 words. */
async function makeModel(name: string, { type, hidden, intermediate, heads, keyValueHeads, blocks }: Sizes): Promise<string> {
  const folder = join(home, name)
  await mkdir(folder, { recursive: true })
  const tensors: ModelFiles['tensors'] = {}
  let state = 1
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  }
  const add = (tensor: string, ...shape: number[]) => {
    const count = shape.reduce((product, size) => product * size, 1)
    const values = Float32Array.from({ length: count }, () => (shape.length === 1 ? 1 : (next() + next() + next()) * 0.2))
    tensors[tensor] = { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) }
  }
  const small = (hidden / heads) * keyValueHeads
  add('model.embed_tokens.weight', 512, hidden)
  for (let block = 0; block < blocks; block++) {
    const layer = `model.layers.${block}`
    if (type === 'phi3') {
      add(`${layer}.self_attn.qkv_proj.weight`, hidden + 2 * small, hidden)
      add(`${layer}.mlp.gate_up_proj.weight`, 2 * intermediate, hidden)
    } else {
      add(`${layer}.self_attn.q_proj.weight`, hidden, hidden)
      for (const part of ['k', 'v']) add(`${layer}.self_attn.${part}_proj.weight`, small, hidden)
      for (const part of ['gate', 'up']) add(`${layer}.mlp.${part}_proj.weight`, intermediate, hidden)
    }
    add(`${layer}.self_attn.o_proj.weight`, hidden, hidden)
    add(`${layer}.mlp.down_proj.weight`, hidden, intermediate)
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`${layer}.${norm}.weight`, hidden)
  }
  add('model.norm.weight', hidden)
  add('lm_head.weight', 512, hidden)
  const config = {
    architectures: [type === 'phi3' ? 'Phi3ForCausalLM' : 'LlamaForCausalLM'],
    model_type: type,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: blocks,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    vocab_size: 512,
    max_position_embeddings: 64,
    original_max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
  }
  await writeModelFiles(folder, { config, tensors })
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(join(import.meta.dirname, '../../../fixtures/stories260k', file), join(folder, file))
  return folder
}

async function tensorsOf(file: string): Promise<Map<string, { tensor: GgufTensor; bytes: Uint8Array }>> {
  const handle = await openRegular(file)
  try {
    const found = new Map<string, { tensor: GgufTensor; bytes: Uint8Array }>()
    for (const [name, tensor] of (await readHeader(handle, file)).tensors)
      found.set(name, { tensor, bytes: await readPart(handle, tensor.begin, tensor.bytes, file) })
    return found
  } finally {
    await handle.close()
  }
}

interface Written {
  readonly ours: string
  readonly theirs: string
}

/** Writes a model in each type by us, and by llama.cpp from our F32 file with the same importances. */
async function writeBoth(model: Model, folder: string, types: readonly GgufType[]): Promise<Map<GgufType, Written>> {
  const windows = [Int32Array.from({ length: 64 }, (_, i) => (i * 37) % 512)]
  const importances = await measureImportances(denseView(model), windows, ['numbers'])
  const request = { model, plan: densePlan(model.spec), method: 'dense', replace: true }
  const write = async (type: GgufType) => {
    const weighed = weighsErrors(mixes[type]) ? { importances } : {}
    await gguf.write({ ...request, ...weighed, folder: join(folder, type), ggufTypes: [type] })
    const name = (await readdir(join(folder, type))).find((one) => one.endsWith(`-${type}.gguf`)) ?? ''
    return { ours: join(folder, type, name), theirs: join(folder, type, 'theirs.gguf') }
  }
  const { ours: from } = await write('F32')
  const written = new Map<GgufType, Written>()
  for (const type of types) written.set(type, await write(type))
  const jobs = [...written].map(([type, { theirs: to }]) => {
    const job = { from, to, fileType: mixes[type].fileType }
    if (!weighsErrors(mixes[type])) return job
    const { weighed } = layOutGguf(request, type, importances)
    return { ...job, importances: Object.fromEntries([...weighed].map(([tensor, values]) => [tensor, [...values]])) }
  })
  await quantiseByLlama(jobs, folder)
  return written
}

/** For types of less than 3 bits ggml prepares tables for up to 10 s: ESPALIER_TEST_EVERY_TYPE=1 tries these too. */
const quick: GgufType[] = [
  'Q8_0',
  'Q6_K',
  'Q5_K_M',
  'Q4_K_M',
  'Q4_K_S',
  'Q4_0',
  'IQ4_XS',
  'Q3_K_L',
  'Q3_K_M',
  'IQ3_M',
  'IQ3_XXS',
  'Q2_K',
  'IQ2_XXS',
]
const every = (Object.keys(mixes) as GgufType[]).filter((type) => !['F32', 'F16', 'BF16', 'MXFP4'].includes(type))
const short32: GgufType[] = ['Q4_K_M', 'Q4_0', 'IQ4_NL', 'Q3_K_M', 'Q2_K_S', 'IQ3_S', 'IQ2_M', 'IQ2_XS', 'IQ1_S']

describe.each([
  ['wide rows', wide, process.env.ESPALIER_TEST_EVERY_TYPE ? every : quick],
  ['short rows', short, short32],
  ['joined projections', joined, ['Q4_K_M', 'Q5_K_M', 'Q3_K_M', 'Q2_K'] as GgufType[]],
])('a quantised file of %s', (name, sizes, types) => {
  let written: Map<GgufType, Written>
  beforeAll(async () => {
    const folder = name.replace(' ', '-')
    const model = await openModel(await makeModel(folder, sizes))
    written = await writeBoth(model, join(home, `${folder}-files`), types)
    await model.close()
  })

  it.each(types)(
    "has the types and bytes of llama.cpp's quantiser in %s",
    async (type) => {
      const files = written.get(type) as Written
      const [ours, theirs] = [await tensorsOf(files.ours), await tensorsOf(files.theirs)]
      const typesOf = (file: typeof ours) => Object.fromEntries([...file].map(([tensor, found]) => [tensor, found.tensor.type.name]).sort())
      expect(typesOf(ours)).toEqual(typesOf(theirs))
      const different = [...ours].filter(([tensor, { bytes }]) => !Buffer.from(bytes).equals(theirs.get(tensor)?.bytes ?? Buffer.alloc(0)))
      expect(different.map(([tensor]) => tensor)).toEqual([])
    },
    120_000,
  )
})
