import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { columnCount, rowCount } from '#engine/checkpoint/checkpoint.ts'
import { fromFloat32 } from '#engine/checkpoint/dtypes.ts'
import { openFolder } from '#engine/checkpoint/safetensors/folder.ts'
import { writeSafetensors } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { ggufSources } from '#engine/export/gguf/gguf-file.ts'
import { findMix } from '#engine/export/gguf/mix.ts'
import { isMatrix } from '#engine/export/mixed-types/mixed-types.ts'
import { sensitivitiesByName } from '#engine/export/mixed-types/price-list.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { measureSensitivities } from '#engine/pruning/gates/sensitivity.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import {
  familyModels,
  fullModels,
  mixtureModels,
  type ReferenceModel,
  referenceModel,
  referenceWindows,
  variedModels,
} from '../../../fixtures/reference.ts'
import { hostIn } from '../../../fixtures/run-host.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const folder = scratchFolder('mixed-types')
vi.stubEnv('TMPDIR', folder)
beforeAll(async () => {
  const windows = (await referenceWindows('calibration')).slice(0, 4).map((one) => [...one.subarray(0, 48)])
  writeFileSync(join(folder, 'windows.json'), JSON.stringify(windows))
})
afterAll(() => vi.unstubAllEnvs())

/** Runs the unpruned model with a weight type. */
async function run(model: string, weights: NonNullable<RunRequest['weights']>, pruned: Partial<RunRequest> = {}) {
  const data = { source: join(folder, 'windows.json'), sequenceLength: 48, windows: 4 }
  const request: RunRequest = {
    model,
    method: 'dense',
    amount: { sparsity: 0 },
    options: {},
    seed: 0,
    calibration: data,
    measures: [{ kind: 'perplexity', data, name: 'text' }],
    weights,
    backend: 'auto',
    ...pruned,
  }
  const document = await executeRun(request, hostIn(folder))
  const value = (measure: string) => document.measures.find((one) => one.name === measure && !/block/.test(one.dataset))?.value as number
  return { document, bytes: value('size'), perplexity: value('perplexity') }
}

test.each(['stories260k', 'qwen2-tiny-tied', 'phi3-tiny', 'phi-tiny'] as const)(
  '%s becomes a file between the smallest and the largest types, and is read again',
  async (name) => {
    const model = await referenceModel(name)
    const refusal = await run(model, 'MIXED:1').catch((thrown: Error) => thrown)
    const { range } = (refusal as { details?: { range?: { least: number; most: number } } }).details ?? {}
    if (!range) throw refusal
    const budget = Math.round((range.least + range.most) / 2)
    const { document, bytes, perplexity } = await run(model, `MIXED:${budget}`)
    expect(bytes).toBeLessThanOrEqual(budget)
    expect(Object.keys(document.plan.types ?? {}).length).toBeGreaterThan(5)
    const [exact, least] = [await run(model, 'F32'), await run(model, `MIXED:${range.least}`)]
    const change = (one: number) => Math.abs(Math.log(one / exact.perplexity))
    expect(change(perplexity)).toBeLessThan(0.02)
    expect(least.bytes).toBeLessThan(bytes)
    expect(document.mixed?.divergence).toBeLessThan(least.document.mixed?.divergence ?? 0)
  },
)

// llama.cpp scales the scores of two of these tiny models otherwise, so no file holds them, and one has attention sinks.
const unheld: readonly string[] = ['gemma2', 'gemma3', 'gpt_oss']
const families = [...fullModels, ...variedModels, ...familyModels, ...mixtureModels].filter((name) => !unheld.includes(name))

test.each(families)('every matrix of %s has a sensitivity of its shape', async (name) => {
  await openBackend('auto')
  const model = await openModel(await referenceModel(name))
  const view = denseView(model)
  const windows = (await referenceWindows('calibration')).slice(0, 2).map((one) => one.subarray(0, 24))
  const random = new PythonRandom(0)
  const report = { signal: new AbortController().signal, progress: () => undefined }
  const found = await measureSensitivities(view, windows, () => random.random(), report)
  const { target, tensors } = ggufSources({ model, plan: densePlan(model.spec) }, findMix('F16'))
  const byName = sensitivitiesByName(model.spec, tensors, target, found)
  const matrices = tensors.filter(({ name: tensor, shape }) => isMatrix(tensor, shape, target.names))
  expect(matrices.length).toBeGreaterThan(4)
  for (const { name: tensor, shape } of matrices) {
    const own = byName.get(tensor) ?? []
    expect(own.length, tensor).toBeGreaterThan(0)
    for (const { rows, columns, total } of own) {
      // Files extend narrow MLPs by zeros.
      expect([rows.length <= rowCount(shape), columns.length <= columnCount(shape)], tensor).toEqual([true, true])
      const [ofRows, ofColumns] = [rows, columns].map((values) => values.reduce((sum, value) => sum + value, 0))
      expect(
        [ofRows, ofColumns].every((sum) => Math.abs((sum ?? 0) / total - 1) < (tensor.includes('attn_') ? 1.01 : 1e-3)),
        tensor,
      ).toBe(true)
    }
  }
  await model.close()
})

test('a model whose gradients Espalier does not compute is refused before any work', async () => {
  await expect(run(await referenceModel('gpt_oss'), 'MIXED:1000000')).rejects.toThrow(
    /Mixed types are chosen by gradients, .* gpt_oss model/,
  )
})

/** A mixture with rows that quantised types can store, which the recorded ones are too narrow for. */
async function wideMixture(): Promise<string> {
  const checkpoint = await openFolder(await referenceModel('qwen3_moe'))
  const to = mkdtempSync(join(folder, 'mixture-'))
  const random = new PythonRandom(1)
  const wider = new Map([
    [48, 64],
    [24, 32],
  ])
  const tensors = [...checkpoint.tensors.values()].map(({ name, shape }) => {
    const own = shape.map((size) => wider.get(size) ?? size)
    const values = Float32Array.from({ length: own.reduce((product, size) => product * size, 1) }, () =>
      own.length === 1 ? 1 : (random.random() - 0.5) / 2,
    )
    return { name, shape: own, dtype: 'F32' as const, bytes: async () => fromFloat32(values, 'F32') }
  })
  await writeSafetensors(join(to, 'model.safetensors'), tensors)
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...checkpoint.config, hidden_size: 64, moe_intermediate_size: 32 }))
  await checkpoint.close()
  return to
}

test('the experts of a mixture have types of their own, and more bytes leave less divergence', async () => {
  const model = await wideMixture()
  const refusal = await run(model, 'MIXED:1').catch((thrown: unknown) => thrown)
  const { least, most } = (refusal as { details: { range: { least: number; most: number } } }).details.range
  const budget = Math.round(0.8 * least + 0.2 * most)
  const [small, middle] = [await run(model, `MIXED:${least}`), await run(model, `MIXED:${budget}`)]
  const experts = Object.entries(middle.document.plan.types ?? {}).filter(([name]) => name.includes('_exps'))
  expect(experts.length).toBe(12)
  expect(new Set(experts.map(([, type]) => type)).size).toBeGreaterThan(1)
  expect(middle.bytes).toBeLessThanOrEqual(budget)
  expect(middle.document.mixed?.divergence).toBeLessThan(small.document.mixed?.divergence ?? 0)
  expect(Math.abs(Math.log(middle.perplexity / (await run(model, 'F32')).perplexity))).toBeLessThan(0.02)
})

/** A copy of a tied model with a head of its own: its embedding, changed. */
async function withOwnHead(name: ReferenceModel, change: (values: Float32Array) => Float32Array): Promise<string> {
  const checkpoint = await openFolder(await referenceModel(name))
  const to = mkdtempSync(join(folder, 'own-head-'))
  const tensors = [...checkpoint.tensors.values()].map(({ name: tensor, shape }) => ({
    name: tensor,
    shape,
    dtype: 'F32' as const,
    bytes: async () => fromFloat32(await checkpoint.readFloat32(tensor), 'F32'),
  }))
  const embedding = tensors.find((tensor) => tensor.name.endsWith('embed_tokens.weight'))
  if (!embedding) throw new Error('no embedding')
  const values = change(await checkpoint.readFloat32(embedding.name))
  const head = { ...embedding, name: 'lm_head.weight', bytes: async () => fromFloat32(values, 'F32') }
  await writeSafetensors(join(to, 'model.safetensors'), [...tensors, head])
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...checkpoint.config, tie_word_embeddings: false }))
  await checkpoint.close()
  return to
}

test('a head that is almost the embedding is stored once for both, and one that is not has a matrix of its own', async () => {
  const alike = await withOwnHead('qwen2-tiny-tied', (values) => values.map((value, i) => value * (1 + 0.01 * Math.sin(i))))
  const other = await withOwnHead('qwen2-tiny-tied', (values) => values.map((_, i) => values.at(-i) as number))
  const [exact, plain] = [await run(alike, 'F32'), await run(alike, 'Q8_0')]
  const [shared, own] = [await run(alike, `MIXED:${plain.bytes}`), await run(other, `MIXED:${plain.bytes}`)]
  expect(shared.document.plan.types).toMatchObject({ 'output.weight': 'embedding' })
  expect(shared.document.mixed?.tensors.map(({ name }) => name)).not.toContain('output.weight')
  expect(Math.abs(Math.log(shared.perplexity / exact.perplexity))).toBeLessThan(0.01)
  expect(shared.bytes).toBeLessThanOrEqual(plain.bytes)
  expect(own.document.plan.types?.['output.weight']).not.toBe('embedding')
})

/** The model as a GGUF file that stores embedding and head as two matrices. */
async function asFile(from: string, ...ggufTypes: string[]): Promise<string> {
  const model = await openModel(from)
  const to = mkdtempSync(join(folder, 'file-'))
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: to, ggufTypes })
  await model.close()
  return (await gguf.filesIn?.(to))?.[0]?.path ?? ''
}

test('a head that repeats the embedding in a GGUF file counts once, as in the file that stores both as one', async () => {
  const alike = await asFile(
    await withOwnHead('qwen2-tiny-tied', (values) => values.map((value, i) => value * (1 + 0.01 * Math.sin(i)))),
    'F16',
  )
  const other = await asFile(await withOwnHead('qwen2-tiny-tied', (values) => values.map((_, i) => values.at(-i) as number)), 'F16')
  const { total: tied } = (await describeModel(await referenceModel('qwen2-tiny-tied'))).parameters
  const model = await openModel(alike)
  const matrix = model.spec.vocabulary * model.spec.hidden
  expect(model.spec.head.weight).not.toBe(model.spec.embedding)
  await model.close()
  expect([(await describeModel(alike)).parameters.total, (await describeModel(other)).parameters.total]).toEqual([tied, tied + matrix])
  const parametersOf = ({ document }: Awaited<ReturnType<typeof run>>) => document.measures.find(({ name }) => name === 'parameters')?.value
  const plain = await run(alike, 'Q8_0')
  const shared = await run(alike, `MIXED:${plain.bytes}`)
  expect(shared.document.plan.types).toMatchObject({ 'output.weight': 'embedding' })
  expect([parametersOf(plain), parametersOf(shared)]).toEqual([tied, tied])
})

test('the bytes of a file are divided between parts and bits: fewer bytes remove more, and enough of them nothing', async () => {
  const model = await referenceModel('stories260k')
  const divided = (bytes: number) => {
    const type = `MIXED:${bytes}` as const
    return run(model, type, { method: 'gates', amount: { bytes, format: 'gguf', type }, options: { steps: 4 } })
  }
  const refusal = await run(model, 'MIXED:1').catch((thrown: unknown) => thrown)
  const { least, most } = (refusal as { details: { range: { least: number; most: number } } }).details.range
  const [small, middle, large] = [await divided(Math.round(0.9 * least)), await divided(least), await divided(most)]
  const removed = [small, middle, large].map(({ document }) => document.sparsity.reached)
  expect(removed.toSorted((a, b) => b - a)).toEqual(removed)
  expect([(removed[0] ?? 0) > 0.01, removed[2]]).toEqual([true, 0])
  expect([small.bytes <= 0.9 * least, middle.document.sparsity.nominal > 0]).toEqual([true, true])
  expect(large.document.notes.join(' ')).toContain('nothing was removed')
  expect(small.document.notes.join(' ')).toMatch(/\d % of the block stack cost less than the bits that their bytes buy for the rest/)
})
