import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { GgufType } from '#contract/titles.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { type GgufTensor, readHeader } from '#engine/checkpoint/gguf/header.ts'
import { readBytes } from '#engine/checkpoint/regular-file.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { layOutGguf } from '#engine/export/gguf/gguf-file.ts'
import { measureImportances } from '#engine/export/gguf/importances.ts'
import { mixes, weighsErrors } from '#engine/export/gguf/mix.ts'
import { priceTensor } from '#engine/export/mixed-types/price-list.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { openRegular } from '#runtime/small-file.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { type SeededSizes, writeSeededModel } from '../../../fixtures/seeded-model.ts'
import { quantiseByLlama } from './llama-quantiser.ts'

/** Rows of 256 values, so every type fits; four query heads share a key head; the mixes' rule for the first eighth of blocks applies. */
const wide: SeededSizes = { type: 'llama', hidden: 256, intermediate: 256, heads: 8, keyValueHeads: 2, blocks: 8 }
/** Rows that fit only the types with blocks of 32; each query head has its own key head. */
const short: SeededSizes = { type: 'llama', hidden: 64, intermediate: 96, heads: 2, keyValueHeads: 2, blocks: 9 }
/** Queries, keys and values in one tensor, gate and up in another. */
const joined: SeededSizes = { type: 'phi3', hidden: 256, intermediate: 256, heads: 4, keyValueHeads: 4, blocks: 4 }
/** Eight experts, for which llama.cpp's quantiser has special rules, and a shared one. */
const mixed: SeededSizes = { type: 'qwen2_moe', hidden: 256, intermediate: 256, heads: 4, keyValueHeads: 4, blocks: 2, experts: 8 }

const home = scratchFolder('as-llama')
beforeAll(async () => {
  await openBackend('tensorflow')
})

async function tensorsOf(file: string): Promise<Map<string, { tensor: GgufTensor; bytes: Uint8Array }>> {
  const handle = await openRegular(file)
  try {
    const found = new Map<string, { tensor: GgufTensor; bytes: Uint8Array }>()
    for (const [name, tensor] of (await readHeader(handle, file)).tensors)
      found.set(name, { tensor, bytes: await readBytes(handle, tensor.begin, tensor.bytes, file) })
    return found
  } finally {
    await handle.close()
  }
}

interface Written {
  readonly ours: string
  readonly theirs: string
}

/** Writes a model in each type with our code, and with llama.cpp from our F32 file with the same importances. */
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

/** ggml takes up to 10 s to prepare tables for types of less than 3 bits: ESPALIER_TEST_EVERY_TYPE=1 tests these too. */
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
const every = (Object.keys(mixes) as GgufType[]).filter((type) => !['F32', 'F16', 'BF16', 'MXFP4', 'SOURCE'].includes(type))
const short32: GgufType[] = ['Q4_K_M', 'Q4_0', 'IQ4_NL', 'Q3_K_M', 'Q2_K_S', 'IQ3_S', 'IQ2_M', 'IQ2_XS', 'IQ1_S']

describe.each([
  ['wide rows', wide, process.env.ESPALIER_TEST_EVERY_TYPE ? every : quick],
  ['short rows', short, short32],
  ['eight experts', mixed, ['Q4_K_M', 'IQ3_M', 'MXFP4'] as GgufType[]],
  ['joined projections', joined, ['Q4_K_M', 'Q5_K_M', 'Q3_K_M', 'Q2_K'] as GgufType[]],
])('a quantised file of %s', (name, sizes, types) => {
  let written: Map<GgufType, Written>
  beforeAll(async () => {
    const folder = name.replace(' ', '-')
    const model = await openModel(await writeSeededModel(join(home, folder), sizes))
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

it('rows of 256 are priced in every type, the coarsest above the finest', async () => {
  const [rows, columns] = [4, 256]
  const values = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(1.3 * i))
  const tensor = { name: 'down', dtype: 'F32', shape: [rows, columns], bytes: async () => new Uint8Array(values.buffer) } as const
  const sensitivity = { rows: new Float64Array(rows).fill(1), columns: new Float64Array(columns).fill(1), total: 1 }
  const { choices } = await priceTensor(tensor, [{ matrix: tensor, sensitivity }], 1, new Float32Array(columns).fill(1))
  expect(choices).toHaveLength(20)
  const priceOf = (type: string) => choices.find((choice) => choice.type === type)?.price ?? Number.NaN
  const order = ['F16', 'Q8_0', 'Q6_K', 'Q5_K', 'Q4_K', 'IQ4_XS', 'Q3_K', 'Q2_K', 'IQ1_S']
  expect(order.toSorted((a, b) => priceOf(a) - priceOf(b))).toEqual(order)
})
