import { existsSync, statSync } from 'node:fs'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { GridInput } from '#contract/experiments/experiments.ts'
import { ggufTypesOf } from '#contract/titles.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { ComputeHost } from '#jobs/compute/compute-host.ts'
import { timedMachine } from '../e2e/timed-machine.ts'
import { eventually } from '../eventually.ts'
import { type ReferenceModel, referenceModel } from '../fixtures/reference.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { type Opened, openedWorkbench, runEnded } from './opened.ts'

const windows = (name: string) => ({
  source: join(import.meta.dirname, '..', 'fixtures', 'reference', `${name}-windows.json`),
  sequenceLength: 256,
})

/** Presets with rivals, and the reasons why their runs would be refused. */
async function weighed({ call }: Opened, name: ReferenceModel) {
  const { id } = await call('models.add', { path: await referenceModel(name), name })
  const presets = (await call('experiments.presets', { model: id })).filter(({ grid }) => grid.weights)
  const [first] = presets
  const { problems } = first ? await call('experiments.preview', { grid: first.grid }) : { problems: [] }
  return [presets.length, problems.filter(({ code }) => code === 'infeasible').map(({ message }) => message)]
}

/** The answers of a session in the playground, when all are there. */
async function answersOf({ call }: Opened, id: string) {
  const transcript = await eventually(
    async () => {
      const now = await call('transcripts.get', { id })
      return now.status !== 'running' && now
    },
    'the answers',
    60_000,
  )
  expect(transcript).toMatchObject({ status: 'done', problem: null })
  return transcript.answers
}

/** The transfer of a saved model, when it is done. */
async function savedBy({ call }: Opened, id: string) {
  const ended = async () => (await call('transfers.list', {})).find((transfer) => transfer.id === id && transfer.status !== 'running')
  const transfer = await eventually(ended, 'the export', 60_000)
  expect(transfer).toMatchObject({ status: 'done', problem: null })
  return transfer
}

test('weights that are stored as they are read may be kept', () => {
  for (const keeping of [{ format: 'gguf' }, { format: 'safetensors', unpacked: true }])
    expect(ggufTypesOf(keeping)).toEqual([...ggufTypesOf({ format: 'safetensors' }), 'SOURCE'])
})

test('presets have rivals for a mixture, but not where narrower experts have no place in its files', async () => {
  const folder = scratchOfTest('test')
  await timedMachine(folder)
  await using workbench = await openedWorkbench({
    folder,
    computeCommand: defaultComputeCommand(),
    modelPath: await referenceModel('stories260k'),
  })
  expect(await weighed(workbench, 'qwen3_moe')).toEqual([5, []])
  expect(await weighed(workbench, 'glm4_moe')).toEqual([0, []])
})

test('an experiment of 2SSP and ShortGPT runs, compares, answers, is saved, and is found again after a restart', async () => {
  const folder = scratchOfTest('test')
  await timedMachine(folder)
  const options = { folder, computeCommand: defaultComputeCommand(), modelPath: await referenceModel('stories260k') }
  await using workbench = await openedWorkbench(options)
  const { call, model } = workbench
  expect(model.description).toMatchObject({ family: 'llama', shape: { blocks: 5 }, plan: null })
  const { methods, formats } = await call('methods.list', {})
  expect(methods.map(({ id }) => id)).toEqual(expect.arrayContaining(['2ssp', 'shortgpt']))

  const grid: GridInput = {
    models: [model.id],
    methods: [{ method: '2ssp' }, { method: 'shortgpt' }],
    amounts: [{ sparsity: 0.2 }, { sparsity: 0.4 }],
    calibration: { ...windows('calibration'), windows: 8 },
    measures: [{ kind: 'perplexity', data: { ...windows('test'), windows: 4 }, name: 'test' }],
    backend: 'auto',
  }
  const preview = await call('experiments.preview', { grid: { ...grid, amounts: [{ sparsity: 0.4 }, { sparsity: 0.99 }] } })
  expect(preview.combinations.map(({ feasible }) => feasible)).toEqual([true, expect.any(Boolean), true, false])
  expect(preview.problems.map(({ message }) => message).join(' ')).toMatch(/most/)

  const { runs, experiment } = await call('experiments.create', { name: 'Real', grid })
  expect(runs.length).toBe(5)
  for (const { id } of runs)
    expect(await runEnded(workbench, id).then(({ status, problem }) => ({ status, problem }))).toEqual({ status: 'done', problem: null })
  const compared = await call('compare.get', { ids: runs.map(({ id }) => id) })
  const perplexities = compared.runs.map((run) => run.measures.find(({ name }) => name === 'perplexity')?.value as number)
  expect(Math.min(...perplexities)).toBe(perplexities[0])
  expect(compared.runs[0]?.baseline).toBe(true)
  const { content } = await call('compare.table', { ids: runs.map(({ id }) => id), format: 'latex' })
  expect(content).toContain('2SSP')

  const session = await call('playground.start', {
    columns: [{ model: model.id }, { run: runs[1]?.id as string }],
    prompts: [{ text: 'Once upon a time' }],
    settings: { maxTokens: 12 },
  })
  const answers = await answersOf(workbench, session.id)
  expect(answers.map(({ tokens }) => tokens.length)).toEqual([12, 12])

  const { formats: outlines } = await call('runs.formats', { id: runs[1]?.id as string })
  expect(outlines.filter(({ format }) => format === 'gguf').map(({ type }) => type)).toEqual(ggufTypesOf({ format: 'safetensors' }))
  const { id: saving } = await call('runs.save', { id: runs[1]?.id as string, formats: [formats[0]?.id as string], name: 'Smaller' })
  const saved = await savedBy(workbench, saving)
  const child = await call('models.get', { id: saved.model as string })
  expect(child).toMatchObject({ name: 'Smaller', origin: 'exported', parent: model.id, run: runs[1]?.id, ancestors: [{ id: model.id }] })
  expect(child.pruned).toMatchObject({ method: '2ssp', weights: null })
  expect(existsSync(join(child.path, 'config.json'))).toBe(true)
  expect(child.description.parameters.total).toBeLessThan(model.description.parameters.total)

  await using again = await workbench.reopened()
  const kept = () => again.call('runs.saved', { id: runs[1]?.id as string })
  expect(await kept()).toEqual([{ ...saved.saved?.[0], isMissing: false, together: 1 }])
  await rename(child.path, `${child.path} moved`)
  expect(await kept()).toMatchObject([{ path: child.path, isMissing: true }])
  expect(await again.call('runs.saved', { id: runs[2]?.id as string })).toEqual([])
  expect((await again.call('experiments.get', { id: experiment.id })).counts).toEqual({ done: 5 })
  expect((await again.call('runs.get', { id: runs[1]?.id as string })).plan).toEqual(compared.runs[1]?.plan)
  expect((await again.call('transcripts.query', { search: 'Once' })).total).toBe(1)
})

test('a sliced model answers beside its dense one, is saved without pruning again, and its tensors go with the run', async () => {
  await using workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: await referenceModel('stories260k') })
  const { call, model } = workbench
  const request = {
    method: 'slicegpt',
    amount: { sparsity: 0.25 },
    options: {},
    seed: 0,
    calibration: { ...windows('calibration'), windows: 8 },
    measures: [],
    backend: 'auto' as const,
    memoryBytes: 5e8,
  }
  const { id } = await call('runs.create', { model: model.id, request })
  const run = await runEnded(workbench, id)
  expect(run).toMatchObject({ status: 'done', problem: null })
  const files = run.plan?.tensors ?? []
  expect(files.length).toBeGreaterThan(0)
  expect(files.every(({ file, bytes }) => statSync(file).size === bytes)).toBe(true)
  const answerOf = async (columns: readonly ({ run: string } | { model: string })[]) => {
    const session = await call('playground.start', {
      columns: [...columns],
      prompts: [{ text: 'Once upon a time' }],
      settings: { decoding: { kind: 'sampling', temperature: 0 }, maxTokens: 12 },
    })
    return (await answersOf(workbench, session.id)).map(({ text }) => text)
  }
  const [sliced, dense] = await answerOf([{ run: id }, { model: model.id }])
  expect(sliced).not.toBe(dense)

  const performed = vi.spyOn(ComputeHost.prototype, 'perform')
  const { id: saving } = await call('runs.save', { id, formats: ['exact'], name: 'Sliced' })
  const saved = await savedBy(workbench, saving)
  const budgets = performed.mock.calls.flatMap(([task]) => (task.kind === 'save' ? [task.memoryBytes] : []))
  expect(budgets, 'a save takes no more than its run').toEqual([5e8])
  expect((await call('runs.get', { id })).attempts).toBe(1)
  expect(await answerOf([{ model: saved.model as string }])).toEqual([sliced])

  await call('runs.archive', { ids: [id] })
  const tooLate = call('runs.save', { id, formats: ['exact'], name: 'Too late' })
  const refused = expect(tooLate, 'a save of a run that is removed meanwhile').rejects.toMatchObject({ code: 'not-found' })
  expect((await call('runs.remove', { ids: [id] })).bytes).toBeGreaterThan(files.reduce((sum, { bytes }) => sum + bytes, 0))
  expect(files.filter(({ file }) => existsSync(file))).toEqual([])
  await refused
})
