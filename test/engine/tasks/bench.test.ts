import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { benchRequest } from '#contract/exports/file-bench.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readData } from '#engine/data/read-data.ts'
import { decideBegin, measureBegin } from '#engine/evaluation/begin-token.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { executeBench } from '#engine/tasks/bench.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'

const folder = scratchFolder('bench')

test('no perplexity is measured of a Gemma file whose order of sliding windows llama.cpp does not read; it is timed with the threads of this process', async () => {
  await openBackend('auto')
  const source = join(folder, 'gemma2')
  cpSync(await referenceModel('gemma2'), source, { recursive: true })
  const config: object = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'))
  writeFileSync(join(source, 'config.json'), JSON.stringify({ ...config, query_pre_attn_scalar: 16 }))
  const model = await openModel(source)
  const [, ...rest] = densePlan(model.spec).blocks
  const plan = { blocks: [{ attention: 'removed' as const, mlp: 'removed' as const }, ...rest] }
  await gguf.write({ model, plan, method: 'shortgpt', folder: join(folder, 'file'), ggufTypes: ['F16'] })
  await model.close()
  const written = await gguf.filesIn?.(join(folder, 'file'))
  const files = written?.map(({ path }) => path)
  const request = benchRequest.parse({ files, texts: [{ name: 'text', data: { source: 'mixed', sequenceLength: 64 } }] })
  const host = { signal: new AbortController().signal, emit: () => {} }
  await expect(executeBench(request, host)).rejects.toThrow(/cannot measure the perplexity of .*\.gguf: blocks were removed/)
  // More threads than cores that are free would wait for each other for minutes.
  const threads = Number(process.env.TF_NUM_INTRAOP_THREADS)
  expect(await executeBench({ ...request, texts: [], prompts: [4], rounds: 1 }, host)).toMatchObject({ threads })
})

test('windows begin as requested, and auto decides in llama.cpp as in a run', async () => {
  const model = await openModel(await referenceModel('stories260k'))
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: join(folder, 'stories'), ggufTypes: ['F32'] })
  const [{ path = '' } = {}] = (await gguf.filesIn?.(join(folder, 'stories'))) ?? []
  const source = join(import.meta.dirname, '../../fixtures/texts/wikitext-2-test.txt')
  const data = { source, sequenceLength: 64, windows: 4 }
  const tokenizer = await openModelTokenizer(model)
  const host = { signal: new AbortController().signal, emit: () => {} }
  const measured = async (beginToken?: 'reference' | 'always' | 'auto') => {
    const asked = { files: [path], texts: [{ name: 'text', data }], prompts: [4], rounds: 1, ...(beginToken ? { beginToken } : {}) }
    const { files, beginToken: used } = await executeBench(benchRequest.parse(asked), host)
    return { value: files[0]?.perplexities[0]?.value ?? Number.NaN, used }
  }
  const expected = async (begin: number | undefined) =>
    (await perplexity(denseView(model), (await readData(model, tokenizer, data, 0, { begin })).windows)).perplexity
  const [plain, begun, auto] = [await measured(), await measured('always'), await measured('auto')]
  expect(plain.used).toBeUndefined()
  expect(plain.value / (await expected(undefined))).toBeCloseTo(1, 2)
  expect(begun.used).toEqual({ asked: 'always', begins: true, token: '<s>' })
  expect(begun.value / (await expected(1))).toBeCloseTo(1, 2)
  expect(begun.value).not.toBeCloseTo(plain.value, 2)
  const { used } = await decideBegin('auto', { spec: model.spec, tokenizer }, (windows, id) => measureBegin(denseView(model), windows, id))
  expect(auto.used).toMatchObject({ asked: 'auto', begins: used.begins, figures: { windows: 4, sequenceLength: 256 } })
  expect((auto.used?.figures?.with ?? 0) / (used.figures?.with ?? 1)).toBeCloseTo(1, 2)
  expect(auto.value).toBe(plain.value)
  await model.close()
})
