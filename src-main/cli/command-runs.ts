import { basename } from 'node:path'
import { stderr } from 'node:process'
import type { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { type Grid, grid as gridSchema } from '#contract/experiments/experiments.ts'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import type { ModelEntry } from '#contract/models/models.ts'
import { pruningTime } from '#contract/runs/measures.ts'
import type { RunDocument } from '#contract/runs/run.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import { type RunRequest, runRequest } from '#contract/runs/run-request.ts'
import type { RunDetail, RunEntry } from '#contract/runs/runs.ts'
import { denseMethod } from '#contract/titles.ts'
import { changedAt } from '#services/models/library-files.ts'
import type { CommandWorkbench } from './command-workbench.ts'
import { tellMemoryWaits } from './commands/output/memory-waits.ts'
import { printable } from './commands/output/print.ts'
import type { Commanded } from './requests.ts'

/**
 * Returns a command's runs in order. They are the runs of an earlier, unfinished start of the same command, or else new drafts. A single
 * run whose plan will be saved is found even if it is done, so that it is not repeated.
 */
export async function prepareRuns(
  workbench: CommandWorkbench,
  model: ModelEntry,
  commanded: Commanded,
  executor: string | null = null,
): Promise<RunEntry[]> {
  const earlier = await ('grid' in commanded
    ? findExperiment(workbench, model, commanded.grid, executor)
    : findRun(workbench, model, commanded, executor))
  if (earlier.length > 0) {
    if (earlier.some(({ startedAt }) => startedAt !== null)) stderr.write('Resuming an earlier start of this command.\n')
    return earlier
  }
  if (!('grid' in commanded))
    return [await workbench.call('runs.create', { model: model.id, request: commanded.request, executor, start: 'draft' })]
  const { grid, sweep } = commanded
  const name = `${model.name}: ${[...new Set(grid.methods.map(({ method }) => method))].join(', ')}`.slice(0, 200)
  const { runs, leftOut } = await workbench.call('experiments.create', { name, grid, executor, start: 'draft', leaveOut: sweep })
  for (const reason of leftOut) stderr.write(`Left out: ${printable(reason)}\n`)
  return runs
}

async function findExperiment(workbench: CommandWorkbench, model: ModelEntry, grid: Grid, executor: string | null): Promise<RunEntry[]> {
  const wanted = JSON.stringify(checked(gridSchema, grid))
  const changed = await changedAt(model.path)
  for (const { id, counts, runs, createdAt } of await workbench.call('experiments.list', {})) {
    // Runs active on this machine belong to another command. Runs on a cluster can be followed by any command.
    if (counts.done === runs || (executor === null && (counts.running ?? 0) > 0) || createdAt < changed) continue
    const known = await workbench.call('experiments.grid', { id }).catch(() => undefined)
    if (!known || JSON.stringify(known) !== wanted) continue
    const { rows } = await workbench.call('runs.query', { experiment: id, limit: 1000 })
    if (rows.every((run) => run.status === 'done' || run.executor === executor)) return rows.toReversed()
  }
  return []
}

async function findRun(
  workbench: CommandWorkbench,
  model: ModelEntry,
  { request, saves }: Extract<Commanded, { request: unknown }>,
  executor: string | null,
): Promise<RunEntry[]> {
  const wanted = JSON.stringify(checked(runRequest, { ...request, model: model.path } satisfies RunRequest))
  const resting = ['draft', 'paused', 'interrupted', 'failed', 'cancelled'] as const
  const statuses = [...resting, ...(saves ? ['done'] : []), ...(executor === null ? [] : ['queued', 'running'])]
  const { rows } = await workbench.call('runs.query', {
    conditions: [
      { field: 'method', is: 'equal', value: request.method },
      { field: 'seed', is: 'equal', value: request.seed },
      { field: 'experiment', is: 'absent' },
      { field: 'status', is: 'any of', value: statuses },
    ],
    limit: 1000,
  })
  const changed = await changedAt(model.path)
  for (const row of rows.filter((run) => run.model.id === model.id && run.executor === executor && run.createdAt >= changed)) {
    const known = await workbench.call('runs.get', { id: row.id })
    if (JSON.stringify(checked(runRequest, { ...known.request, model: model.path })) === wanted) return [row]
  }
  return []
}

/**
 * Runs a run on its executor, unless it is done already, and returns everything that the history holds about it. Throws the run's problem
 * if it does not finish.
 */
export async function doRun(workbench: CommandWorkbench, { id, status }: RunEntry, listen: (event: RunEvent) => void): Promise<RunDetail> {
  const tellWait = tellMemoryWaits((one) => one === id)
  const stop = workbench.subscribe((event) => {
    tellWait(event)
    if (event.name === 'run event' && event.data.run === id) listen(event.data.recorded.event)
    if (event.name === 'run changed' && event.data.run.id === id && event.data.run.progress)
      listen({ type: 'progress', progress: event.data.run.progress })
  })
  try {
    if (status !== 'done') await workbench.runNow(id)
    const run = await workbench.call('runs.get', { id })
    if (run.status === 'done') return run
    const { problem } = run
    throw new EspalierError(
      problem?.code ?? 'internal',
      problem ? [problem.message, problem.advice].filter(Boolean).join(' ') : `The run is ${run.status}.`,
    )
  } finally {
    stop()
  }
}

/** Rebuilds a finished run's document from the history. Throws if the run has no plan. */
export function toDocument(run: RunDetail): RunDocument {
  if (!run.plan) throw new EspalierError('internal', `"${run.name}" has no plan.`)
  return {
    model: basename(run.request.model),
    method: run.method,
    options: run.method === denseMethod ? {} : run.resolved,
    seed: run.seed,
    ...(run.request.weights ? { weights: run.request.weights } : {}),
    ...(run.beginToken ? { beginToken: run.beginToken } : {}),
    ...(run.calibration ? { calibration: run.calibration } : {}),
    evaluation: run.evaluation,
    sparsity: { nominal: run.nominal ?? 0, reached: run.reached ?? 0 },
    plan: run.plan,
    ...(run.repair ? { repair: run.repair } : {}),
    ...(run.recovery ? { recovery: run.recovery } : {}),
    ...(run.budget ? { budget: run.budget } : {}),
    ...(run.experts ? { experts: run.experts } : {}),
    decisions: run.decisions,
    ...(run.selections.length > 0 ? { selections: run.selections } : {}),
    notes: run.remarks,
    // `seconds` already holds the pruning time.
    measures: run.measures.filter(({ name }) => name !== pruningTime).map(({ best: _, ...measure }) => measure),
    ...(run.answers.length > 0 ? { answers: run.answers } : {}),
    ...(run.passes ? { passes: run.passes } : {}),
    ...(run.precision ? { precision: run.precision } : {}),
    ...(run.certified ? { certified: run.certified } : {}),
    seconds: run.phaseSeconds,
    backend: run.environment?.backend ?? '',
    version: run.environment?.version ?? '',
  }
}

/** Parses what the flags ask for. Throws `usage` with a sentence for a value that no flag refused. */
function checked<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const { success, data, error } = readWith(schema, value)
  if (success) return data
  throw new EspalierError(
    'usage',
    explainIssues(error, value)
      .map(({ message }) => message)
      .slice(0, 3)
      .join(' '),
  )
}
