import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { at } from '#contract/at.ts'
import type { GridInput } from '#contract/experiments/experiments.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import type { MeasureRequest } from '#contract/runs/run-request.ts'
import type { RunEntry } from '#contract/runs/runs.ts'
import { eventually } from '../../eventually.ts'
import { referenceModel } from '../../fixtures/reference.ts'
import type { Workbench } from '../workbench.ts'

/** What the pictures show, by id. */
export interface Subjects {
  model: string
  mixture: string
  /** One whose runs have several seeds, and one of a mixture. */
  experiment: string
  mixtureExperiment: string
  runs: string[]
  run: string
  /** Runs of the kinds that have a tab of their own. */
  sliced: string
  gated: string
  repaired: string
  recovered: string
  withoutExperts: string
  ablation: string
  failed: string
  transcript: string
  inspection: string
  answers: string
  judging: string
}

const resources = join(import.meta.dirname, '../../../resources')

const text = (source: string, windows: number, sequenceLength = 128) => ({ source, sequenceLength, windows })
const prose = { kind: 'perplexity' as const, name: 'Prose', data: text('prose', 8) }
const timed = { kind: 'inference', sequenceLength: 64, repeats: 2 } as const
const ends = [{ sparsity: 0.25 }, { sparsity: 0.5 }]
const methods = (...ids: string[]) => ids.map((method) => ({ method }))

/** Waits until nothing runs or waits any more. */
async function rest(workbench: Workbench): Promise<RunEntry[]> {
  const { rows } = await eventually(
    () => workbench.call('runs.query', { limit: 1000 }),
    (page) => page.rows.every(({ status }) => ['done', 'failed', 'cancelled', 'draft'].includes(status)),
    2_700_000,
  )
  return rows
}

async function experiment(workbench: Workbench, name: string, grid: GridInput): Promise<string> {
  return (await workbench.call('experiments.create', { name, grid, start: 'queue' })).experiment.id
}

/** Experiments on the sample model, on a mixture, and on a model of one's own if there is one. */
async function runExperiments(workbench: Workbench, model: string, mixture: string, own: string | undefined) {
  const [preset] = await workbench.call('experiments.presets', { model })
  const measures = [
    ...(preset?.grid.measures ?? []).map((measure) =>
      measure.kind === 'perplexity' ? { ...measure, data: { ...measure.data, windows: 8 } } : measure,
    ),
    prose,
  ]
  const { calibration } = preset?.grid ?? {}
  const usual = { models: [model], amounts: ends, ...(calibration && { calibration: { ...calibration, windows: 8 } }) }
  const tasks: MeasureRequest = { kind: 'tasks', tasks: ['arc_easy', 'piqa'], folder: join(resources, 'questions'), limit: 20 }
  const seeded = await experiment(workbench, 'Two methods, three seeds', {
    ...usual,
    methods: methods('2ssp', 'shortgpt'),
    seeds: [0, 1, 2],
    rivals: ['Q8_0', 'Q4_0'],
    measures: [...measures, tasks],
  })
  await experiment(workbench, 'Every method', {
    ...usual,
    amounts: [{ sparsity: 0.5 }],
    methods: [...methods('2ssp', 'shortgpt', 'window_based', 'blockpruner', 'slicegpt'), { method: 'gates', options: { steps: 30 } }],
    measures,
  })
  const onMixture = await experiment(workbench, 'Fewer experts', {
    models: [mixture],
    methods: methods('reap'),
    amounts: [{ experts: 0.25 }, { experts: 0.5 }],
    calibration: text('mixed', 8),
    measures: [prose, timed],
  })
  if (own)
    await experiment(workbench, 'A first look', {
      models: [own],
      methods: methods('2ssp', 'shortgpt'),
      amounts: [{ sparsity: 0.25 }],
      calibration: text('mixed', 4),
      rivals: ['Q4_K_M'],
      measures: [
        { ...prose, data: text('prose', 4) },
        { kind: 'long context', name: 'Prose', data: text('prose', 1) },
      ],
    })
  return { seeded, onMixture }
}

/** Its text is gone by the time it runs. */
async function failRun(workbench: Workbench, model: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'espalier-pictures-'))
  const source = join(folder, 'notes.txt')
  await writeFile(source, 'A garden is a place where plants are grown. '.repeat(400))
  const request = { method: '2ssp', amount: { sparsity: 0.25 }, options: {}, seed: 0, backend: 'auto' as const, measures: [] }
  const run = await workbench.call('runs.create', { model, request: { ...request, calibration: text(source, 4) }, start: 'draft' })
  await rm(folder, { recursive: true })
  await workbench.call('runs.enqueue', { ids: [run.id] })
  return run.id
}

/** A run's repair and its recovery, and an ablation. */
async function treat(workbench: Workbench, { id }: RunEntry, model: string) {
  const { calibration = text('mixed', 8) } = (await workbench.call('runs.get', { id })).request
  const repaired = await workbench.call('runs.clone', { id, changes: { repair: { kind: 'in-order', calibration } } })
  const recover = { amount: { tokens: 16_384 }, text: { source: 'mixed', sequenceLength: 128 } }
  const recovered = await workbench.call('runs.clone', { id, changes: { recover } })
  const options = { sparsities: [0.25, 0.5], windows: 4 }
  const request = { method: 'l1_norm', amount: { sparsity: 0.5 }, options, seed: 0, backend: 'auto' as const, measures: [prose] }
  const ablation = await workbench.call('runs.create', { model, request: { ...request, calibration } })
  return { repaired: repaired.id, recovered: recovered.id, ablation: ablation.id }
}

/** Votes on the answers of a transcript, one pair being left to judge. */
async function judge(workbench: Workbench, transcript: string): Promise<string> {
  const { id, pairs } = await workbench.call('judgings.start', { transcript, seed: 0 })
  const votes = ['left', 'left', 'right', 'tie', 'left', 'both bad'] as const
  for (let vote = 0; vote < pairs - 1; vote++) {
    const { next } = await workbench.call('judgings.get', { id })
    if (next) await workbench.call('judgings.vote', { id, pair: next.pair, vote: at(votes, vote % votes.length) })
  }
  return id
}

const prompts = [{ text: 'Who is Albert Einstein?' }, { text: 'What is a garden?' }]

/** Answers in the playground and unattended, blind votes on them, and where pruned models differ. */
async function inspect(workbench: Workbench, model: string, runs: string[]) {
  const settings = { maxTokens: 48, seed: 3, decoding: { kind: 'sampling' as const, temperature: 0.6 } }
  const columns = [{ model }, ...runs.map((run) => ({ run }))]
  const { id: transcript } = await workbench.call('playground.start', { columns, prompts, settings })
  await eventually(
    () => workbench.call('transcripts.get', { id: transcript }),
    ({ status }) => status !== 'running',
    300_000,
  )
  const data = text(join(resources, 'sample-model/test.txt'), 16, 256)
  const inspection = await workbench.call('runs.inspect', { inspect: { kind: 'divergence', runs: runs.slice(0, 3), data } })
  const answers = await workbench.call('runs.inspect', { inspect: { kind: 'generation', runs: runs.slice(0, 2), prompts, settings } })
  return { transcript, inspection: inspection.id, answers: answers.id, judging: await judge(workbench, transcript) }
}

/** Tags, notes, a saved view, a saved model, an archived run: what a person leaves behind. */
async function use(workbench: Workbench, best: RunEntry, archived: string): Promise<void> {
  await workbench.call('runs.update', { ids: [best.id], starred: true, addTags: ['table 1'], notes: 'The half-size model for the talk.' })
  await workbench.call('runs.archive', { ids: [archived] })
  await workbench.call('views.save', { name: 'Best of 2SSP', state: { conditions: [{ field: 'method', is: 'equal', value: '2ssp' }] } })
  const { id } = await workbench.call('runs.save', { id: best.id, name: 'Half the size', formats: ['stock', 'gguf'], ggufTypes: ['Q8_0'] })
  await eventually(
    () => workbench.call('transfers.list', {}),
    (transfers) => transfers.some((transfer) => transfer.id === id && transfer.status === 'done'),
    300_000,
  )
  await workbench.call('engine.selfTest', {}).catch(() => undefined)
}

/** Recorded with the vocabulary of stories260K, but without its tokenizer. */
async function addMixture(workbench: Workbench): Promise<ModelEntry> {
  const path = await referenceModel('qwen3_moe')
  await cp(join(import.meta.dirname, '../../fixtures/stories260k'), path, { recursive: true })
  return workbench.call('models.add', { path, mode: 'copy', name: 'tiny-mixture' })
}

/** A history as users make it: several experiments, treated, failed and archived runs, answers, votes and a saved model. */
export async function fill(workbench: Workbench, ownModel: string | undefined): Promise<Subjects> {
  const [sample] = await workbench.call('models.list', {})
  if (!sample) throw new Error('The sample model is missing; there is nothing to show.')
  const own = ownModel ? (await workbench.call('models.add', { path: ownModel })).id : undefined
  const mixture = await addMixture(workbench)
  const { seeded, onMixture } = await runExperiments(workbench, sample.id, mixture.id, own)
  const first = await rest(workbench)
  const ofSample = first.filter(({ model, status, baseline }) => model.id === sample.id && status === 'done' && !baseline)
  const find = (method: string, among = ofSample) => {
    const found = among.find((run) => run.method === method && (run.nominal === 0.5 || among !== ofSample))
    if (!found) throw new Error(`No run of ${method} ended well.`)
    return found
  }
  const best = find(
    '2ssp',
    ofSample.filter(({ experiment: of, nominal, seed }) => of?.id === seeded && nominal === 0.5 && seed === 0),
  )
  const failed = await failRun(workbench, sample.id)
  const treated = await treat(workbench, best, sample.id)
  const runs = [best, find('shortgpt'), find('slicegpt'), find('gates')].map(({ id }) => id)
  const inspected = await inspect(workbench, sample.id, runs)
  await rest(workbench)
  await use(workbench, best, find('window_based').id)
  return {
    model: sample.id,
    mixture: mixture.id,
    experiment: seeded,
    mixtureExperiment: onMixture,
    runs,
    run: best.id,
    sliced: find('slicegpt').id,
    gated: find('gates').id,
    withoutExperts: find('reap', first).id,
    failed,
    ...treated,
    ...inspected,
  }
}

/** A run that lasts, and two that wait behind it. */
export async function keepBusy(workbench: Workbench, { run }: Subjects): Promise<string[]> {
  const changes = { calibration: text('mixed', 256, 256), options: {}, measures: [] }
  const running = await workbench.call('runs.clone', { id: run, changes })
  const waiting = [await workbench.call('runs.clone', { id: run }), await workbench.call('runs.clone', { id: run, changes: { seed: 7 } })]
  await eventually(
    () => workbench.call('runs.get', { id: running.id }),
    ({ stepsDone }) => stepsDone > 1,
    300_000,
  )
  return [running, ...waiting].map(({ id }) => id)
}
