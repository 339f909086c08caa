import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { grid } from '#contract/experiments/experiments.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import { moment, name, notes, tags } from '#contract/identifiers.ts'
import { modelDescription } from '#contract/models/models.ts'
import { measure } from '#contract/runs/measures.ts'
import type { RunStatus } from '#contract/runs/run-status.ts'
import { type RunRecord, recordedEvent, runDetail, runRecord } from '#contract/runs/runs.ts'
import { newId } from '#db/ids.ts'
import type { StoredModel } from '#db/models.ts'
import { flattenParameters } from '#db/runs/parameters.ts'
import type { Context } from '../context.ts'
import { hidePlaces } from '../hide-places.ts'
import { runDetail as detailOf } from '../runs/run-detail.ts'

const shape = runDetail.shape
const exportedRun = z.object({
  name,
  status: shape.status,
  model: z.string(),
  method: z.string().min(1).max(100),
  baseline: z.boolean(),
  seed: shape.seed,
  nominal: shape.nominal,
  reached: shape.reached,
  createdAt: moment,
  startedAt: shape.startedAt,
  endedAt: shape.endedAt,
  seconds: shape.seconds,
  device: shape.device,
  fingerprint: shape.fingerprint.default(null),
  starred: z.boolean(),
  tags,
  notes,
  problem: shape.problem,
  ...runRecord.shape,
  // Files from earlier versions lack these.
  study: shape.study.default(null),
  passes: shape.passes.default(null),
  inspected: shape.inspected.default(null),
  outcomes: shape.outcomes.default([]),
  precision: shape.precision.default(null),
  certified: shape.certified.default(null),
  calibration: shape.calibration.default(null),
  evaluation: shape.evaluation.default([]),
  beginToken: shape.beginToken.default(null),
  repair: shape.repair.default(null),
  recovery: shape.recovery.default(null),
  budget: shape.budget.default(null),
  experts: shape.experts.default(null),
  mixed: shape.mixed.default(null),
  ranking: shape.ranking.default(null),
  measures: z.array(measure),
  events: z.array(recordedEvent),
})

/** One experiment as a file. It names and describes models but does not contain them. Importing creates new ids. */
const experimentFile = z.object({
  format: z.literal('espalier experiment'),
  formatVersion: z.literal(1),
  experiment: z.object({ name, notes, tags, starred: z.boolean(), createdAt: moment, grid: grid.nullable() }),
  models: z.array(z.object({ key: z.string(), name, source: z.string().nullable(), description: modelDescription })).max(1000),
  runs: z.array(exportedRun).max(20_000),
})

type ExperimentFile = z.infer<typeof experimentFile>

/** Returns an experiment as JSON. If `paths` is false, paths of this machine become names. */
export function exportExperiment({ history }: Pick<Context, 'history'>, id: string, paths: boolean): string {
  const experiment = history.experiments.get(id)
  const rows = history.runs.ofExperiment(id)
  const models = [...new Set(rows.map(({ model }) => model))].map((model) => history.models.find(model) as StoredModel)
  const file: z.input<typeof experimentFile> = {
    format: 'espalier experiment',
    formatVersion: 1,
    experiment: { ...experiment, grid: history.experiments.grid(id) ?? null },
    models: models.map((model) => ({ key: model.id, name: model.name, source: model.source, description: model.description })),
    runs: rows.map((row) => ({
      ...detailOf({ history }, row),
      model: row.model,
      events: history.events.after(row.number, 0, Number.MAX_SAFE_INTEGER),
    })),
  }
  return `${JSON.stringify(experimentFile.parse(paths ? file : hidePlaces(file)), null, 1)}\n`
}

/** Imports an experiment. Validates the whole file first, and then writes everything in one transaction. */
export function importExperiment({ history }: Pick<Context, 'history'>, content: string): { experiment: string; runs: number } {
  const file = parseFile(content)
  const experiment = newId('exp')
  history.transaction(() => {
    const models = new Map(file.models.map((model) => [model.key, modelFor(history, model)]))
    const known = (keys: readonly string[]) => keys.flatMap((key) => models.get(key) ?? [])
    const { grid } = file.experiment
    const remapped = grid && { ...grid, models: known(grid.models), ...(grid.siblings ? { siblings: known(grid.siblings) } : {}) }
    history.experiments.insert({ ...file.experiment, id: experiment, grid: remapped && remapped.models.length > 0 ? remapped : null })
    if (file.experiment.starred) history.experiments.patch(experiment, { starred: true })
    for (const run of file.runs) {
      const model = models.get(run.model)
      if (model === undefined)
        throw new EspalierError(
          'invalid',
          `The run "${run.name}" names the model ${JSON.stringify(run.model)}, which the file does not describe.`,
        )
      insertRun(history, run, experiment, model)
    }
  })
  return { experiment, runs: file.runs.length }
}

function parseFile(content: string): ExperimentFile {
  let raw: unknown
  try {
    raw = JSON.parse(content)
  } catch (thrown) {
    throw new EspalierError('invalid', `This is not an exported experiment: ${thrown instanceof Error ? thrown.message : thrown}`)
  }
  const parsed = readWith(experimentFile, raw)
  if (parsed.success) return parsed.data
  const [issue] = explainIssues(parsed.error, raw)
  throw new EspalierError('invalid', `This version cannot read this experiment: ${issue?.message}`)
}

/** Returns the id of a model in the library with the same family, shape and size, or else adds a removed one that runs can refer to. */
function modelFor(history: Context['history'], { name, source, description }: ExperimentFile['models'][number]): string {
  const facts = (model: { description: ExperimentFile['models'][number]['description'] }) =>
    JSON.stringify([model.description.family, model.description.shape, model.description.parameters])
  const same = history.models.list().filter((model) => facts(model) === facts({ description }))
  const known = same.find((model) => source !== null && model.source === source) ?? same.find((model) => model.name === name) ?? same[0]
  if (known) return known.id
  const id = newId('model')
  history.models.insert({
    id,
    name,
    path: `absent/${id}`,
    origin: 'linked',
    source,
    description,
    bytes: description.bytes,
    parent: null,
    run: null,
    createdAt: Date.now(),
  })
  history.models.setRemoved(id, Date.now(), false)
  return id
}

/** The status here of runs that were active where they were exported. */
const importedStatus: Partial<Record<RunStatus, RunStatus>> = { running: 'interrupted', queued: 'draft' }

function insertRun(history: Context['history'], run: ExperimentFile['runs'][number], experiment: string, model: string): void {
  const status = importedStatus[run.status] ?? run.status
  const number = history.runs.insert({
    ...run,
    id: newId('run'),
    status,
    experiment,
    model,
    parent: null,
    executor: null,
    parameters: flattenParameters(run.request, run.resolved),
  })
  const record = Object.keys(runRecord.shape).map((field) => [field, run[field as keyof RunRecord]])
  const { request, ...results } = Object.fromEntries(record) as RunRecord
  history.documents.insert(number, request)
  history.documents.set(number, results)
  const { reached, seconds, device, starred, problem, fingerprint } = run
  history.runs.patch(number, {
    ...(fingerprint === null ? {} : { fingerprint }),
    reached,
    seconds,
    device,
    starred,
    problem,
    started_at: run.startedAt,
    ended_at: run.endedAt,
    has_plan: run.plan !== null,
  })
  for (const { event, at } of run.events) history.events.add(number, event, at)
  for (const result of run.measures) history.measures.add(number, result, run.endedAt ?? run.createdAt)
}
