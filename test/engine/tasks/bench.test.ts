import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { benchRequest } from '#contract/exports/file-bench.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { executeBench } from '#engine/tasks/bench.ts'
import { referenceModel } from '../../fixtures/reference.ts'

const folder = mkdtempSync(join(tmpdir(), 'espalier-bench-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

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
