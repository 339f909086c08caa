import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { readHeader } from '#engine/checkpoint/gguf/header.ts'
import { readBytes } from '#engine/checkpoint/regular-file.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { openRegular } from '#runtime/small-file.ts'
import {
  type FamilyModel,
  familyModels,
  type MixtureModel,
  mixtureModels,
  referenceModel,
  referenceWindows,
} from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { logitsOf, relativeError } from '../../model/logits.ts'
import { type Entry, makeGguf, text, u32 } from './make-gguf.ts'

const home = scratchFolder('gguf-families')
let window: Int32Array
beforeAll(async () => {
  await openBackend('tensorflow')
  window = (await referenceWindows('test'))[0]?.subarray(0, 150) as Int32Array
})

/** The folder of a model with the attention scale that llama.cpp computes itself, and a YaRN attention factor of its own. */
async function adapted(name: FamilyModel | MixtureModel): Promise<string> {
  const folder = await referenceModel(name)
  const file = join(folder, 'config.json')
  const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  const rotary = config.rope_parameters as { rope_type?: string } | undefined
  await writeFile(
    file,
    JSON.stringify({
      ...config,
      ...('query_pre_attn_scalar' in config ? { query_pre_attn_scalar: config.head_dim } : {}),
      ...(rotary?.rope_type === 'yarn' ? { rope_parameters: { ...rotary, attention_factor: 1.5 } } : {}),
    }),
  )
  return folder
}

async function written(name: FamilyModel | MixtureModel): Promise<{ file: string; expected: number[]; family: string }> {
  const model = await openModel(await adapted(name))
  const expected = (await logitsOf(denseView(model), window)).flat()
  const folder = join(home, name)
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder, replace: true, ggufTypes: ['F32'] })
  await model.close()
  const file = join(folder, (await readdir(folder)).find((entry) => entry.endsWith('.gguf')) as string)
  return { file, expected, family: model.spec.family }
}

async function errorOf(file: string, expected: number[]): Promise<{ error: number; family: string }> {
  const model = await openModel(file)
  const error = relativeError((await logitsOf(denseView(model), window)).flat(), expected)
  await model.close()
  return { error, family: model.spec.family }
}

describe('a GGUF file', () => {
  it.each([...familyModels, ...mixtureModels])(
    'of %s opens as its family, with the logits of the model it was written from',
    async (name) => {
      const { file, expected, family } = await written(name)
      const found = await errorOf(file, expected)
      expect(found.family).toBe(family)
      expect(found.error).toBeLessThan(2e-6)
    },
  )

  it('in parts opens by any of them, and a missing or foreign part is named', async () => {
    const { file, expected } = await written('qwen3')
    const handle = await openRegular(file)
    const { metadata, tensors } = await readHeader(handle, file)
    const all = await Promise.all(
      [...tensors.values()].map(async ({ name, shape, begin, bytes }) => ({
        name,
        type: 0,
        shape: [...shape],
        bytes: await readBytes(handle, begin, bytes, file),
      })),
    )
    await handle.close()
    const plain = Object.fromEntries(
      [...metadata].flatMap(([key, value]): [string, Entry][] => {
        if (typeof value === 'string') return [[key, text(value)]]
        return typeof value === 'number' ? [[key, [6, value]]] : []
      }),
    )
    const folder = await mkdtemp(join(home, 'parts-'))
    const half = all.length >> 1
    const part = (index: number) => join(folder, `m-0000${index}-of-00002.gguf`)
    await writeFile(
      part(1),
      makeGguf({ metadata: { ...plain, 'split.no': u32(0), 'split.tensors.count': u32(all.length) }, tensors: all.slice(0, half) }),
    )
    const second = makeGguf({ metadata: { 'split.no': u32(1) }, tensors: all.slice(half) })
    await writeFile(part(2), second)
    for (const index of [1, 2]) expect((await errorOf(part(index), expected)).error).toBeLessThan(2e-6)
    await writeFile(part(2), makeGguf({ metadata: { 'split.no': u32(1) }, tensors: all.slice(half + 1) }))
    await expect(openModel(part(1))).rejects.toThrow(`have ${all.length - 1} tensors, but the model has ${all.length}`)
    await writeFile(part(2), makeGguf({ metadata: { 'split.no': u32(5) }, tensors: all.slice(half) }))
    await expect(openModel(part(1))).rejects.toThrow('is not part 2 of 2')
    await rm(part(2))
    await expect(openModel(part(1))).rejects.toThrow("lacks m-00002-of-00002.gguf, one of the model's 2 parts")
  })
})
