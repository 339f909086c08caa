import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { emptyProfile } from '#contract/clusters/clusters.ts'
import { distinctTrigrams, repeatedEnding } from '#contract/comparison/answer-statistics.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { connect } from '#db/database.ts'
import { defaultComputeCommand } from '#jobs/compute/compute-command.ts'
import { eventually } from '../../eventually.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import { type Opened, openedWorkbench, runEnded } from '../opened.ts'

const windows = (name: string, count: number) => ({
  source: join(import.meta.dirname, '..', '..', 'fixtures', 'reference', `${name}-windows.json`),
  sequenceLength: 256,
  windows: count,
})

let workbench: Opened
let runs: RunEntry[]
let experiment: string

beforeAll(async () => {
  workbench = await openedWorkbench({ computeCommand: defaultComputeCommand(), modelPath: await referenceModel('stories260k') })
  const made = await workbench.call('experiments.create', {
    name: 'To be looked at',
    grid: {
      models: [workbench.model.id],
      methods: [{ method: 'shortgpt' }],
      amounts: [{ sparsity: 0.2 }, { sparsity: 0.4 }],
      calibration: windows('calibration', 2),
      measures: [{ kind: 'tasks', tasks: ['piqa', 'winogrande'], folder: join(import.meta.dirname, '../../../resources/questions') }],
      backend: 'auto',
    },
  })
  experiment = made.experiment.id
  runs = made.runs
  for (const { id } of runs) expect((await runEnded(workbench, id)).problem).toBeNull()
})

afterAll(async () => {
  await workbench?.[Symbol.asyncDispose]()
})

const idOf = (at: number) => (runs[at] as RunEntry).id

test('runs are compared with the dense model as a run of the queue; its pages are in files, and the dense run differs nowhere', async () => {
  const { call } = workbench
  const made = await call('runs.inspect', { inspect: { kind: 'divergence', runs: runs.map(({ id }) => id), data: windows('test', 10) } })
  expect(made).toMatchObject({ method: 'divergence', hasPlan: false, nominal: null, experiment: { id: experiment } })
  const done = await runEnded(workbench, made.id)
  expect(done.problem).toBeNull()
  const { counts, runs: count } = await call('experiments.get', { id: experiment })
  expect([counts, count], 'an inspection is no run of its experiment').toEqual([{ done: runs.length }, runs.length])
  if (done.inspected?.kind !== 'divergence') throw new Error('There is no divergence.')
  const { divergence } = done.inspected
  expect(divergence.pages).toEqual([256, 2048, 256])
  expect(divergence.runs.map(({ run }) => run.name)).toEqual(runs.map(({ name }) => name))
  expect(divergence.runs[0]?.numbers).toMatchObject({ mean: { value: 0 }, largest: 0, sameTop: { value: 1 } })
  const [, quarter, half] = divergence.runs.map(({ numbers }) => numbers.mean.value)
  expect(half).toBeGreaterThan(quarter as number)
  const place = divergence.runs[2]?.worst[0]
  const { page = 0, at = 0, text, divergence: worst } = place ?? {}
  const tokens = await call('runs.tokens', { id: made.id, page })
  expect(tokens?.texts[at]).toBe(text)
  expect(tokens?.runs[2]?.divergence[at]).toBe(worst)
  expect(Math.max(...(tokens?.runs[2]?.divergence ?? []))).toBe(divergence.runs[2]?.numbers.largest)
  await expect(call('runs.tokens', { id: made.id, page: 3 })).rejects.toThrow(/no page 3/)
  expect((await call('runs.inspectionsOf', { id: idOf(1) })).runs.map(({ id }) => id)).toEqual([made.id])
})

test('an analysis runs before all waiting runs, in a paused queue too, and is no run of the queue', async () => {
  const { call, model } = workbench
  await call('queue.pause', {})
  const request = { method: 'shortgpt', amount: { sparsity: 0.2 }, options: {}, seed: 0, measures: [], backend: 'auto' as const }
  const waiting = []
  for (const seed of [1, 2])
    waiting.push(await call('runs.create', { model: model.id, request: { ...request, seed, calibration: windows('calibration', 1) } }))
  const before = await call('queue.get', {})
  const { id } = await call('runs.inspect', { inspect: { kind: 'divergence', runs: [idOf(1)], data: windows('test', 1) } })
  expect((await runEnded(workbench, id)).status).toBe('done')
  const after = await call('queue.get', {})
  expect([after.paused, after.waiting, after.endedLastHour]).toEqual([true, 2, before.endedLastHour])
  const page = await call('runs.query', {})
  expect([page.total - page.analyses, page.analyses > 0]).toEqual([runs.length + waiting.length, true])
  await call('runs.cancel', { ids: waiting.map((run) => run.id) })
  await call('queue.resume', {})
})

test('an inspection is refused if its runs do not fit together', async () => {
  const { call } = workbench
  const inspect = { kind: 'divergence' as const, runs: ['run-missing'], data: windows('test', 1) }
  await expect(call('runs.inspect', { inspect })).rejects.toThrow(/no run run-missing/)
  const [looked] = (await call('runs.inspectionsOf', { id: idOf(1) })).runs
  await expect(call('runs.inspect', { inspect: { ...inspect, runs: [looked?.id ?? ''] } })).rejects.toThrow(/no plan to inspect/)
  await expect(
    call('runs.inspect', { inspect: { ...inspect, runs: [idOf(1)], data: { ...inspect.data, source: '/nowhere' } } }),
  ).rejects.toThrow()
})

test('the unpruned model in a weight type is not compared with itself, as if storing changed nothing', async () => {
  const { call, model } = workbench
  const dense = { method: 'dense', amount: { sparsity: 0 }, options: {}, seed: 0, measures: [], backend: 'auto' as const }
  const { id } = await call('runs.create', { model: model.id, request: { ...dense, weights: 'Q8_0' } })
  expect((await runEnded(workbench, id)).problem).toBeNull()
  const inspect = { kind: 'divergence' as const, runs: [id], data: windows('test', 1) }
  await expect(call('runs.inspect', { inspect })).rejects.toThrow(/stored in other weight types.*nothing would differ/)
})

test('a comparison that is cancelled ends at once, keeps its first pages, and resumes from there with the same numbers', async () => {
  const { call } = workbench
  const inspect = { kind: 'divergence' as const, runs: [idOf(1), idOf(2)], data: windows('test', 32) }
  const undisturbed = await runEnded(workbench, (await call('runs.inspect', { inspect })).id)
  const { id } = await call('runs.inspect', { inspect })
  const first = await eventually(() => call('runs.tokens', { id, page: 0 }), 'the first page')
  await call('runs.cancel', { ids: [id] })
  const cancelled = await runEnded(workbench, id)
  expect(cancelled.status).toBe('cancelled')
  expect(await call('runs.tokens', { id, page: 0 })).toEqual(first)
  // It ended at once: later pages were not computed.
  await expect(call('runs.tokens', { id, page: 4 })).rejects.toThrow(/it is cancelled/)
  await call('runs.resume', { ids: [id] })
  expect((await runEnded(workbench, id)).inspected).toEqual(undisturbed.inspected)
})

test('runs that a cluster computed are inspected on this machine, after they have ended there', async () => {
  const { call, model, folder } = workbench
  const calibration = windows('calibration', 1)
  const request = {
    method: 'shortgpt',
    amount: { sparsity: 0.2 },
    options: {},
    seed: 0,
    calibration,
    measures: [],
    backend: 'auto' as const,
  }
  await call('clusters.save', { cluster: { ...emptyProfile, name: 'far', folder: '/shared' } })
  const away = await call('runs.create', { model: model.id, request, executor: 'far', start: 'draft' })
  const inspect = { kind: 'divergence' as const, runs: [idOf(1), away.id], data: windows('test', 1) }
  await expect(call('runs.inspect', { inspect })).rejects.toThrow(
    /has no plan to inspect: it is draft. It runs on the cluster "far". You can inspect it once it is done there/,
  )
  const db = connect(join(folder, 'history.sqlite'))
  db.prepare("UPDATE runs SET executor = 'far' WHERE id = ?").run(idOf(2))
  db.close()
  const prompts = [{ text: 'The dog', tags: [] }]
  const settings = { maxTokens: 2, alternatives: 0 }
  for (const look of [
    { ...inspect, runs: [idOf(2)] },
    { kind: 'generation' as const, runs: [idOf(2)], prompts, settings },
  ]) {
    const made = await call('runs.inspect', { inspect: look })
    expect(made.executor).toBeNull()
    expect(await runEnded(workbench, made.id)).toMatchObject({ status: 'done', problem: null })
  }
})

test('questions that flipped come with the scores of every choice and a test, and a comparison says the same', async () => {
  const { call } = workbench
  const found = await call('compare.questions', { first: idOf(0), second: idOf(2) })
  const compared = await call('compare.get', { ids: runs.map(({ id }) => id) })
  const paired = compared.runs.find(({ id }) => id === idOf(2))?.paired ?? []
  expect(found.tasks.map(({ interval: _, ...task }) => task)).toEqual(paired)
  const piqa = paired.filter(({ task }) => task === 'piqa')
  expect(piqa.map(({ measure }) => measure)).toEqual(['accuracy', 'accuracy per character'])
  const measured = (at: number) => compared.runs[at]?.measures.find(({ name, dataset }) => name === 'accuracy' && dataset === 'piqa')
  expect(piqa[0]).toMatchObject({ first: { value: measured(0)?.value, error: measured(0)?.error }, second: { value: measured(2)?.value } })
  const { gained = 0, lost = 0, questions = 1, first, second } = piqa[0] ?? {}
  expect((gained - lost) / questions).toBeCloseTo((second?.value ?? 0) - (first?.value ?? 0), 10)
  expect(found.total).toBe(
    found.tasks.filter(({ measure }) => measure === 'accuracy').reduce((sum, task) => sum + task.gained + task.lost, 0),
  )
  for (const { first: before, second: after, direction } of found.flipped) {
    expect([before.correct, after.correct]).toEqual(direction === 'gained' ? [false, true] : [true, false])
    expect(before.scores).toHaveLength(before.choices.length)
    expect(before.context).toBe(after.context)
  }
  const winogrande = await call('compare.questions', { first: idOf(0), second: idOf(2), task: 'winogrande' })
  expect(new Set(winogrande.flipped.map(({ first }) => new Set(first.choices).size))).toEqual(new Set([2]))
})

test('prompts are answered unattended by all runs, judged blind, and the votes are kept and exported', async () => {
  const { call } = workbench
  const prompts = ['Once upon a time', 'The dog', 'A girl', 'In the park'].map((text, at) => ({
    text,
    tags: at < 2 ? ['early'] : ['late'],
  }))
  const made = await call('runs.inspect', {
    inspect: {
      kind: 'generation',
      runs: [idOf(1), idOf(2)],
      prompts,
      settings: { maxTokens: 6, alternatives: 0, decoding: { kind: 'sampling', temperature: 0 } },
    },
  })
  const done = await runEnded(workbench, made.id)
  expect(done.problem).toBeNull()
  if (done.inspected?.kind !== 'generation') throw new Error('There are no answers.')
  const { columns, transcript } = done.inspected
  expect(columns.map(({ run, answers, equal }) => [run?.id ?? null, answers, equal === null])).toEqual([
    [null, 4, true],
    [idOf(1), 4, false],
    [idOf(2), 4, false],
  ])
  const kept = await call('transcripts.get', { id: transcript })
  expect(kept).toMatchObject({ status: 'done', promptTags: [['early'], ['early'], ['late'], ['late']] })
  expect(kept.answers).toHaveLength(12)
  for (const [at, { distinct, ending }] of columns.entries()) {
    const own = kept.answers.filter(({ column }) => column === at).map(({ tokens }) => tokens.map(({ id }) => id))
    const mean = (of: (ids: number[]) => number) => own.reduce((sum, ids) => sum + of(ids), 0) / own.length
    expect([distinct, ending]).toEqual([mean(distinctTrigrams), mean(repeatedEnding)])
  }

  const started = await call('judgings.start', { transcript, seed: 3 })
  expect(started).toMatchObject({ pairs: 12, votes: 0 })
  let state = started
  const textOf = (column: number, prompt: number) => kept.answers.find((one) => one.column === column && one.prompt === prompt)?.text
  for (let vote = 0; vote < 10; vote += 1) {
    const { next } = state
    if (!next) throw new Error('There is no pair.')
    const prompt = kept.prompts.indexOf(next.prompt)
    // The dense model is preferred wherever its text gives it away.
    const choice = next.left === textOf(0, prompt) ? 'left' : next.right === textOf(0, prompt) ? 'right' : 'tie'
    state = await call('judgings.vote', { id: started.id, pair: next.pair, vote: choice })
  }
  expect(state).toMatchObject({ votes: 10 })
  state = await call('judgings.vote', { id: started.id, pair: state.last ?? 0, vote: null })
  expect(state.votes).toBe(9)
  const result = await call('judgings.result', { id: started.id })
  expect(result.standings[0]?.name).toBe('tiny')
  expect(result.standings[0]?.winRate).toBeGreaterThan(0.5)
  expect(result.byTag.map(({ tag }) => tag)).toEqual(['early', 'late'])
  expect(result.list).toHaveLength(9)
  const { content } = await call('judgings.export', { id: started.id, format: 'csv' })
  expect(content.trim().split(/\r?\n/)).toHaveLength(10)
  const again = await workbench.reopened()
  workbench = again
  expect(await again.call('judgings.get', { id: started.id })).toMatchObject({ votes: 9 })
})
