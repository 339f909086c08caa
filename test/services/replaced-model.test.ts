import { copyFileSync, cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import type { Input, Output } from '#contract/api.ts'
import { runRequest } from '#contract/runs/run-request.ts'
import { releaseModel } from '#engine/model/kept-model.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { runDetail } from '#services/runs/run-detail.ts'
import { eventually } from '../eventually.ts'
import { otherModel } from '../fixtures/other-model.ts'
import { referenceModel, referenceWindows } from '../fixtures/reference.ts'
import { scratchOfTest } from '../fixtures/scratch.ts'
import { OneHistory } from './one-history.ts'
import { type Opened, openedWorkbench, outcomesOf, runEnded } from './opened.ts'

type Changes = NonNullable<Input<'runs.clone'>['changes']>

let home: string
const at = (name: string) => join(home, name)
const data = (name: string) => ({ source: at(name), sequenceLength: 32, windows: 6 })
const perplexity = (name: string) => ({ kind: 'perplexity' as const, data: data(name), name: 'held out' })

beforeEach(async () => {
  home = scratchOfTest('replaced')
  const reference = await referenceModel('stories260k')
  cpSync(reference, at('model'), { recursive: true })
  otherModel(reference, at('other-model'))
  const ids = (await referenceWindows('calibration')).flatMap((window) => [...window])
  for (const [index, name] of ['calibration.json', 'other.json', 'held-out.json'].entries())
    writeFileSync(at(name), JSON.stringify(ids.slice(600 * index, 600 * (index + 1))))
})

const opened = () => openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: at('model') })

/** Saves another model over the one in the folder, as continued training does. */
function replaceModel(): void {
  copyFileSync(at('other-model/model.safetensors'), at('model/new'))
  renameSync(at('model/new'), at('model/model.safetensors'))
}

const shortgpt = { method: 'shortgpt', amount: { blocks: 2 }, options: {}, seed: 0, backend: 'auto' as const }
const request = () => ({ ...shortgpt, calibration: data('calibration.json'), measures: [perplexity('held-out.json')] })

async function ended(workbench: Opened, id: string): Promise<Output<'runs.get'>> {
  const run = await runEnded(workbench, id)
  expect([run.status, run.problem]).toEqual(['done', null])
  return run
}

const experimentOf = ({ call, model }: Opened) =>
  call('experiments.create', {
    name: 'Replaced',
    grid: {
      models: [model.id],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ blocks: 2 }],
      calibration: data('calibration.json'),
      measures: [perplexity('held-out.json')],
    },
  })

/** What a run decided and measured, without times. */
function resultOf(run: Output<'runs.get'>) {
  const tensors = run.plan?.tensors?.map(({ sha256 }) => sha256)
  return { plan: { ...run.plan, tensors }, decisions: run.decisions, measures: outcomesOf(run) }
}

/** The same request in an empty history. In this process: the results do not depend on others. */
async function freshly(asked: Omit<Input<'runs.create'>['request'], 'model'>): Promise<ReturnType<typeof resultOf>> {
  await releaseModel()
  await using fresh = new OneHistory()
  const request = runRequest.parse({ ...asked, model: at('model') })
  await fresh.run(request)
  const row = fresh.history.runs.find(fresh.runOf(request))
  if (!row) throw new Error('the run was not kept')
  return resultOf(runDetail(fresh, row))
}

test('a model saved over the same folder: later runs of the experiment are of it, with a baseline of its own', async () => {
  await using workbench = await opened()
  const { runs, experiment } = await experimentOf(workbench)
  const [dense, pruned] = await Promise.all(runs.map(({ id }) => ended(workbench, id)))
  if (!dense || !pruned) throw new Error('two runs were asked for')
  expect(dense.fingerprint).toMatch(/^[0-9a-f]{64}$/)
  expect(pruned.fingerprint).toBe(dense.fingerprint)

  replaceModel()
  const again = await ended(workbench, (await workbench.call('runs.clone', { id: pruned.id })).id)
  expect(again.fingerprint).not.toBe(pruned.fingerprint)
  expect(resultOf(again)).toEqual(await freshly(request()))
  expect(resultOf(again)).not.toEqual(resultOf(pruned))

  const now = await eventually(
    async () => {
      const entry = await workbench.call('experiments.get', { id: experiment.id })
      return entry.counts.done === 4 && entry
    },
    'the new baseline',
    60_000,
  )
  expect(now).toMatchObject({ runs: 4, changedModels: ['tiny'], baselines: [dense.id, expect.any(String)] })
  const newBaseline = await workbench.call('runs.get', { id: now.baselines[1] as string })
  expect(newBaseline.fingerprint).toBe(again.fingerprint)
  const baselineOf = async (id: string) => (await workbench.call('compare.get', { ids: [id] })).baseline
  expect(await baselineOf(pruned.id)).toBe(dense.id)
  expect(await baselineOf(again.id)).toBe(newBaseline.id)
  const ids = [pruned.id, again.id]
  const { content } = await workbench.call('compare.table', { ids, baseline: dense.id, format: 'csv', overSeeds: true })
  expect(content.match(/^tiny[^,]*/gm)?.sort(), 'the results of both contents').toEqual(['tiny', 'tiny (older)', 'tiny (older)'])

  // After a restart too, in another process on the same history.
  await using reopened = await workbench.reopened()
  const third = await ended(reopened, (await reopened.call('runs.clone', { id: pruned.id })).id)
  expect(resultOf(third)).toEqual(resultOf(again))
  expect((await reopened.call('experiments.get', { id: experiment.id })).runs).toBe(5)
})

test('a plan is applied only to the model that it was made for', async () => {
  await using workbench = await opened()
  const { call } = workbench
  const { id } = await call('runs.create', { model: workbench.model.id, request: request() })
  await ended(workbench, id)
  replaceModel()
  const compared = await call('runs.inspect', { inspect: { kind: 'divergence', runs: [id], data: data('held-out.json') } })
  expect(await runEnded(workbench, compared.id)).toMatchObject({
    status: 'failed',
    problem: { code: 'conflict', message: expect.stringContaining('replaced') },
  })
  const talk = await call('playground.start', { columns: [{ run: id }], prompts: [{ text: 'Once' }], settings: { maxTokens: 2 } })
  const answered = await eventually(
    async () => {
      const transcript = await call('transcripts.get', { id: talk.id })
      return transcript.status !== 'running' && transcript
    },
    'the answer',
    60_000,
  )
  expect(answered).toMatchObject({ status: 'failed', problem: expect.stringContaining('replaced') })
  const saving = await call('runs.save', { id, formats: ['exact'] })
  const saved = await eventually(
    async () => (await call('transfers.list', {})).find((one) => one.id === saving.id && one.status !== 'running'),
    'the export',
    60_000,
  )
  expect(saved).toMatchObject({ status: 'failed', problem: expect.stringContaining('replaced') })
})

test('a retry after the weights were renamed away fails, and says what is missing', async () => {
  await using workbench = await opened()
  const { call, model } = workbench
  const { id } = await call('runs.create', { model: model.id, request: request() })
  await ended(workbench, id)
  renameSync(at('model/model.safetensors'), at('model/away.safetensors'))
  await call('runs.retry', { ids: [id] })
  expect(await runEnded(workbench, id)).toMatchObject({
    status: 'failed',
    problem: { code: 'not-found', message: expect.stringContaining('model.safetensors') },
  })
})

const repaired = () => ({ ...request(), repair: { kind: 'one-pass' as const, calibration: data('calibration.json') } })
const clones: Record<string, () => Changes> = {
  'with other measures': () => ({ measures: [perplexity('other.json')] }),
  'with other windows': () => ({ measures: [{ ...perplexity('held-out.json'), data: { ...data('held-out.json'), windows: 3 } }] }),
  'repaired on another text': () => ({ repair: { kind: 'one-pass', calibration: data('other.json') } }),
  'not repaired': () => ({ repair: undefined }),
}

test('clones of a repaired run, and one after its text was edited, are equal to the same request where nothing was computed', async () => {
  await using workbench = await opened()
  const { call, model } = workbench
  const parent = await ended(workbench, (await call('runs.create', { model: model.id, request: repaired() })).id)
  for (const [name, change] of Object.entries(clones)) {
    const clone = await ended(workbench, (await call('runs.clone', { id: parent.id, changes: change() })).id)
    expect(clone.parent).toBe(parent.id)
    const { repair, ...rest } = { ...repaired(), ...change() }
    expect(resultOf(clone), name).toEqual(await freshly(repair ? { ...rest, repair } : rest))
  }
  writeFileSync(at('held-out.json'), readFileSync(at('other.json')))
  const edited = await ended(workbench, (await call('runs.clone', { id: parent.id })).id)
  expect(resultOf(edited)).toEqual(await freshly(repaired()))
  expect(outcomesOf(edited)).not.toEqual(outcomesOf(parent))
})

test('a folder that holds another model is described again', async () => {
  await using workbench = await opened()
  const { id } = workbench.model
  const described = async () => (await workbench.call('models.get', { id })).description.family
  expect(await described()).toBe('llama')
  rmSync(at('model'), { recursive: true })
  cpSync(await referenceModel('qwen2-tiny'), at('model'), { recursive: true })
  await eventually(async () => (await described()) === 'qwen2', 'the new description')
})
