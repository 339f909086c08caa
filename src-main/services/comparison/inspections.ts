import type { BeginChoice } from '#contract/data/begin-token.ts'
import { EspalierError } from '#contract/errors.ts'
import type { TokenPage } from '#contract/inspection/divergence.ts'
import { type Inspection, pageStep } from '#contract/inspection/inspection.ts'
import { denseMethod, titleOfMethod } from '#contract/titles.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Context } from '../context.ts'
import type { PlannedRun } from '../experiments/grid.ts'
import { currentSettings } from '../machine/current-settings.ts'

/**
 * Plans the run of an inspection with the current settings. Its windows begin as requested, or else as in the inspected runs. Throws if a run
 * cannot be inspected, or if they do not share one model.
 */
export function inspectionRun(context: Context, inspect: Inspection, begin?: BeginChoice): PlannedRun {
  const rows = subjectsOf(context, inspect)
  const [{ model }] = rows as [RunRow]
  const { backend, memoryBytes } = currentSettings(context)
  const beginToken = begin ?? rows.map(({ number }) => context.history.documents.request(number).beginToken).find(Boolean)
  return {
    model,
    request: {
      method: inspect.kind,
      amount: { sparsity: 0 },
      options: {},
      seed: 0,
      measures: [],
      inspect,
      ...(beginToken ? { beginToken } : {}),
      backend,
      ...(memoryBytes === null ? {} : { memoryBytes }),
    },
  }
}

/** Returns the runs to inspect. Throws unless all have plans and share one model. */
function subjectsOf({ history }: Pick<Context, 'history'>, { kind, runs }: Pick<Inspection, 'kind' | 'runs'>): RunRow[] {
  const rows = runs.map((id) => {
    const row = history.runs.get(id)
    if (!row.has_plan) throw new EspalierError('conflict', `"${row.name}" has no plan to inspect: it is ${row.status}. ${adviceOn(row)}`)
    return row
  })
  const whole = rows.find(({ method, number }) => method === denseMethod && history.documents.request(number).weights !== undefined)
  if (whole && kind === 'divergence')
    throw new EspalierError(
      'infeasible',
      `"${whole.name}" is the unpruned model, stored in other weight types. Models are compared before their weights are stored, so nothing would differ. See the measures of the run instead.`,
    )
  const other = rows.find(({ model }) => model !== rows[0]?.model)
  if (other)
    throw new EspalierError(
      'conflict',
      `"${rows[0]?.name}" and "${other.name}" belong to different models. Inspect runs of one model at a time.`,
    )
  return rows
}

/** Returns what to do about a run without a plan. A run on a cluster has its plan here once it is done there. */
function adviceOn({ executor, status }: RunRow): string {
  if (status === 'done' || executor === null) return 'Choose a run that has finished pruning.'
  return `It runs on the cluster "${executor}". You can inspect it once it is done there.`
}

/** The default name of an inspection: its kind and its subjects. */
export function inspectionName(context: Context, inspect: Inspection): string {
  const names = subjectsOf(context, inspect).map(({ name }) => name)
  return `${titleOfMethod(inspect.kind)}: ${names.join(' · ')}`.slice(0, 200)
}

/** Returns the experiment that contains all of the runs, or null if there is none. */
export function sharedExperiment(context: Context, inspect: Inspection): string | null {
  const experiments = new Set(subjectsOf(context, inspect).map(({ experiment }) => experiment))
  return experiments.size === 1 ? ([...experiments][0] ?? null) : null
}

/** Returns a page of tokens. It is the result of a step, so it is available before the run is done. Null if it will be computed. */
export function tokensOf({ history }: Pick<Context, 'history'>, { id, name, status }: RunRow, page: number): TokenPage | null {
  const step = history.steps.named(id, pageStep(page))
  const found = step === undefined ? undefined : history.steps.get(id, step)
  if (found) return (found.value as { value: TokenPage }).value
  if (status === 'queued' || status === 'running') return null
  const state = status === 'done' ? 'it has fewer pages, or its pages were not copied to this machine' : `it is ${status}`
  throw new EspalierError('not-found', `"${name}" has no page ${page} of tokens: ${state}.`)
}
