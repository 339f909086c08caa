import { spawnSync } from 'node:child_process'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { dispose, tensor2d } from '@tensorflow/tfjs-core'
import { afterAll, expect, test, vi } from 'vitest'
import { at } from '#contract/at.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { compareLogits } from '#engine/model/parts/head/token-losses.ts'
import { denseView } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import type { StepResult } from '#engine/steps/step-name.ts'
import { nameStep } from '#engine/steps/step-name.ts'
import { checkRequests } from '#engine/tasks/check-request.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { sampleModelFolder } from '#runtime/resources.ts'
import { hostIn } from '../../fixtures/run-host.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { logitsOf } from '../model/logits.ts'

const folder = scratchFolder('weight-types')
vi.stubEnv('TMPDIR', folder)
afterAll(() => vi.unstubAllEnvs())

const text = (name: string, windows: number) => ({ source: join(sampleModelFolder, `${name}.txt`), sequenceLength: 64, windows })
const dense: RunRequest = {
  model: sampleModelFolder,
  method: 'dense',
  amount: { sparsity: 0 },
  options: {},
  seed: 0,
  calibration: text('calibration', 4),
  measures: [{ kind: 'perplexity', data: text('test', 4), name: 'test' }],
  backend: 'auto',
}

async function run(changes: Partial<RunRequest>, done = new Map<string, StepResult>()) {
  const phases: string[] = []
  const host = hostIn(folder, done, (event) => void (event.type === 'progress' && phases.push(event.progress.phase)))
  const document = await executeRun({ ...dense, ...changes }, host)
  const value = (name: string) => document.measures.find((one) => one.name === name && !/block/.test(one.dataset))?.value as number
  return {
    document,
    phases,
    steps: [...done.keys()],
    perplexity: value('perplexity'),
    bytes: value('size'),
    parameters: value('parameters'),
  }
}

test('a dense model in Q8_0 has the size and the perplexity of the file that a save writes', async () => {
  const stored = await run({ weights: 'Q8_0' })
  const model = await openModel(sampleModelFolder)
  await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: join(folder, 'saved'), ggufTypes: ['Q8_0'] })
  const { windows } = await readData(model, await openTokenizer(sampleModelFolder), text('test', 4), 0, {})
  await model.close()
  const file = join(folder, 'saved', (await readdir(join(folder, 'saved'))).find((name) => name.endsWith('.gguf')) as string)
  const saved = await openModel(file)
  expect(stored.perplexity).toBe((await perplexity(denseView(saved), windows)).perplexity)
  await saved.close()
  expect(stored.bytes).toBe((await stat(file)).size)
  const reopened = await run({ model: file, measures: [] })
  expect(reopened.bytes, 'of the file itself, as computed').toBe((await stat(file)).size)
  expect(stored.document.weights).toBe('Q8_0')
  expect(stored.phases).toContain('Writing the file in Q8_0')
  const { fingerprint = '', backend, precision = '', plan } = stored.document
  const nameWith = (writer: { writer?: number }) => {
    const on = { view: { plan, weights: { ...writer, type: 'Q8_0', importances: null } }, asked: { windows } }
    return nameStep({ kind: { version: 2 }, label: 'perplexity on test', on }, { model: fingerprint, backend, precision })
  }
  expect(stored.steps).toContain(nameWith({ writer: 2 }))
  expect(stored.steps, 'a perplexity of a file that was written otherwise').not.toContain(nameWith({}))
})

test('each weight type is measured by itself: fewer bits are worse, and no measure of another type is taken for it', async () => {
  const [computed, coarse, pruned] = [
    await run({}),
    await run({ weights: 'Q2_K' }),
    await run({ method: '2ssp', amount: { sparsity: 0.25 }, options: { windows: 2 }, weights: 'Q4_0' }),
  ]
  expect(coarse.perplexity).toBeGreaterThan(computed.perplexity)
  expect(coarse.steps.filter((name) => computed.steps.includes(name))).toHaveLength(1)
  expect(coarse.parameters).toBe(computed.parameters)
  expect(coarse.document.notes.join(' ')).toContain('weighted by importances, measured on 4 windows of calibration.txt')
  expect(pruned.parameters).toBeLessThan(computed.parameters)
  expect(pruned.bytes).toBeLessThan(computed.bytes)
  expect((await readdir(folder)).filter((name) => name.startsWith('espalier-weights-'))).toEqual([])
})

test('a file is timed in llama.cpp, in turns with the dense model in F16, and no time is named like one of our own', async () => {
  const inference = { kind: 'inference' as const, sequenceLength: 32, repeats: 1 }
  const [quantised, plain] = [await run({ weights: 'Q8_0', measures: [inference] }), await run({ weights: 'F16', measures: [inference] })]
  const found = (of: typeof plain, name: string) => of.document.measures.filter((one) => one.name === name).map(({ dataset }) => dataset)
  expect(found(quantised, 'tokens per second')).toEqual(['prefill in llama.cpp', 'decode in llama.cpp'])
  expect(found(quantised, 'time to first token')).toEqual(['32 tokens in llama.cpp'])
  expect(found(quantised, 'speed-up')).toEqual(['prefill in llama.cpp', 'decode in llama.cpp'])
  expect(found(quantised, 'memory')).toEqual(['32 tokens in llama.cpp'])
  expect(found(plain, 'speed-up')).toEqual([])
  expect(quantised.document.measures.every(({ value }) => value > 0)).toBe(true)
  expect((await readdir(folder)).filter((name) => name.startsWith('espalier-weights-'))).toEqual([])
})

test('a run that finds all its measures writes no file, and one that lacks a measure gets the same as before', async () => {
  const done = new Map<string, StepResult>()
  const first = await run({ weights: 'Q2_K' }, done)
  expect(first.document.seconds.quantising).toBeGreaterThan(0)
  const again = await run({ weights: 'Q2_K' }, new Map(done))
  expect(again.document.seconds).not.toHaveProperty('quantising')
  expect(again.document.seconds).not.toHaveProperty('weighing columns')
  expect(again.document.measures).toEqual(first.document.measures)
  const other = await run({ weights: 'Q4_0' }, new Map(done))
  expect(other.document.seconds, 'the same plan was weighed for another type').not.toHaveProperty('weighing columns')
  expect(other.document.measures).toEqual((await run({ weights: 'Q4_0' })).document.measures)
  const file = [...done].filter(([name]) => !name.includes('perplexity'))
  const killed = await run({ weights: 'Q2_K' }, new Map(file))
  expect(killed.document.seconds.quantising).toBeGreaterThan(0)
  expect(killed.document.measures).toEqual(first.document.measures)
})

test('a file of mixed types keeps its size and reopens with the types of the plan; a killed run chooses the same ones', async () => {
  const [uniform, done] = [await run({ weights: 'Q4_0' }), new Map<string, StepResult>()]
  const budget = uniform.bytes + 300_000
  const mixed = await run({ weights: `MIXED:${budget}` }, done)
  expect(mixed.bytes).toBeLessThanOrEqual(budget)
  expect(mixed.bytes).toBeGreaterThan(0.995 * budget)
  const { plan, mixed: priced } = mixed.document
  const types = plan.types as Record<string, string>
  expect(new Set(Object.values(types)).size).toBeGreaterThan(1)
  expect(priced?.tensors.map(({ name }) => name)).toEqual(Object.keys(types))
  const sensitivity = [...done].filter(([name]) => /importances|sensitivity|prices of types, token_embd/.test(name))
  expect(sensitivity.length).toBeGreaterThan(2)
  const killed = await run({ weights: `MIXED:${budget}` }, new Map(sensitivity))
  expect(killed.document.plan.types).toEqual(types)
  expect(killed.perplexity).toBe(mixed.perplexity)
  const model = await openModel(sampleModelFolder)
  await gguf.write({ model, plan, method: 'dense', folder: join(folder, 'mixed'), ggufTypes: [`MIXED:${budget}`] })
  const [file] = (await gguf.filesIn?.(join(folder, 'mixed'))) ?? []
  expect(file).toMatchObject({ type: `MIXED:${budget}` })
  const saved = await openModel(file?.path as string)
  const stored = [...saved.checkpoint.tensors.values()].flatMap(({ storedAs }) => storedAs ?? [])
  expect(new Set(stored)).toEqual(new Set(['F32', ...Object.values(types)]))
  await saved.close()
  await model.close()
})

test('the estimated cost of mixed types is that of the file, within half', async () => {
  const model = await openModel(sampleModelFolder)
  const { windows } = await readData(model, await openTokenizer(sampleModelFolder), text('test', 24), 0, {})
  const done = new Map<string, StepResult>()
  for (const budget of [1_900_000, 2_200_000]) {
    const { document } = await run({ weights: `MIXED:${budget}`, calibration: text('calibration', 48), measures: [] }, done)
    await gguf.write({ model, plan: document.plan, method: 'dense', folder: join(folder, `${budget}`), ggufTypes: [`MIXED:${budget}`] })
    const file = await openModel(((await gguf.filesIn?.(join(folder, `${budget}`))) ?? [])[0]?.path as string)
    const measured = await divergenceOf(model, file, windows)
    const { divergence = 0 } = document.mixed ?? {}
    expect(measured / divergence).toBeGreaterThan(0.5)
    expect(measured / divergence).toBeLessThan(1.5)
    await file.close()
  }
  await model.close()
})

/** The mean divergence of a model's answers from another's, in nats per token. */
async function divergenceOf(model: Model, other: Model, windows: Windows): Promise<number> {
  let sum = 0
  for (const window of windows) {
    const [own, its] = [await logitsOf(denseView(model), window), await logitsOf(denseView(other), window)]
    const tensors = [tensor2d(own), tensor2d(its)] as const
    const { shift, denseLog, ownLog } = compareLogits(...tensors, 1)
    for (let i = 0; i < window.length; i++) sum += at(shift, i) - at(denseLog, i) + at(ownLog, i)
    dispose([...tensors])
  }
  return sum / windows.reduce((all, { length }) => all + length, 0)
}

test('mixed types are refused before anything is measured if no file is that small, and the range is stated', async () => {
  const done = new Map<string, StepResult>()
  await expect(run({ weights: 'MIXED:1000000' }, done)).rejects.toThrow(/No types make a file of 1 MB: .* have [\d.]+ MB to [\d.]+ MB/)
  expect([...done.keys()].join(' ')).not.toContain('importances')
  const preview = async (changes: Partial<RunRequest>) => (await checkRequests([{ ...dense, ...changes }]))[0]?.problems ?? []
  expect(await preview({ weights: 'MIXED:1000000' })).toMatchObject([{ field: 'weights', code: 'infeasible' }])
  expect(await preview({ weights: 'MIXED:2500000' })).toEqual([])
  const amount = { bytes: 3_000_000, format: 'gguf' as const }
  // Gates may also remove parts, so their files may be smaller, but not as small as one wants.
  const divided = (bytes: number) => {
    const type = `MIXED:${bytes}` as const
    return preview({ weights: type, method: 'gates', amount: { bytes, format: 'gguf', type } })
  }
  expect(await divided(1000)).toMatchObject([{ field: 'weights', code: 'infeasible' }])
  expect(await divided(1_000_000)).toEqual([])
  expect(await preview({ weights: 'MIXED:2500000', method: '2ssp', amount })).toMatchObject([
    { field: 'amount' },
    { field: 'weights', code: 'usage' },
  ])
})

test('a pruned, repaired model gets mixed types, too; llama.cpp reads the file', async () => {
  const text64 = text('calibration', 4)
  const pruned = {
    method: '2ssp',
    // Widths of whole blocks of 256 would be priced in the slowest types, too.
    amount: { sparsity: 0.25 },
    options: { windows: 2 },
    repair: { kind: 'one-pass' as const, calibration: text64 },
  }
  const inference = { kind: 'inference' as const, sequenceLength: 32, repeats: 1 }
  const mixed = await run({ ...pruned, weights: 'MIXED:1900000', measures: [inference] })
  expect(mixed.document.measures.filter(({ dataset, value }) => dataset.endsWith('in llama.cpp') && value > 0).length).toBeGreaterThan(3)
  expect(mixed.bytes).toBeLessThanOrEqual(1_900_000)
  expect(mixed.bytes).toBeGreaterThan(0.99 * 1_900_000)
  expect(mixed.document.plan.blocks.some(({ attention }) => attention === 'removed')).toBe(true)
})

test('the temporary folder of a killed process is removed by the next one, that of a running one is not', async () => {
  const { pid = 0 } = spawnSync(process.execPath, ['--version'])
  const [dead, alive] = [pid, process.ppid].map((owner) => join(folder, `espalier-weights-${owner}-abc`)) as [string, string]
  for (const one of [dead, alive]) await mkdir(join(one, 'file'), { recursive: true })
  await run({ weights: 'Q8_0', measures: [] })
  expect((await readdir(folder)).filter((name) => name.startsWith('espalier-weights-'))).toEqual([basename(alive)])
  await rm(alive, { recursive: true })
})
