import type { TokenPage } from '#contract/comparison/divergence.ts'
import type { Inspection } from '#contract/comparison/inspection.ts'
import { pageStep } from '#contract/comparison/inspection-steps.ts'
import { EspalierError } from '#contract/errors.ts'
import { titleOfMethod } from '#contract/titles.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Context } from '../context.ts'
import type { PlannedRun } from '../experiments/grid.ts'
import { currentSettings } from '../machine/settings.ts'

/** The run that an inspection is, on the machine as the settings have it. Throws where its runs do not go together. */
export function inspectionRun(context: Context, inspect: Inspection): PlannedRun {
  const rows = subjectsOf(context, inspect)
  const [{ model }] = rows as [RunRow]
  const { backend, memoryBytes } = currentSettings(context)
  return {
    model,
    request: {
      method: inspect.kind,
      amount: { sparsity: 0 },
      options: {},
      seed: 0,
      measures: [],
      inspect,
      backend,
      ...(memoryBytes === null ? {} : { memoryBytes }),
    },
  }
}

/** The runs that an inspection looks at: done, with plans, of one model. */
export function subjectsOf({ history }: Pick<Context, 'history'>, { runs }: Pick<Inspection, 'runs'>): RunRow[] {
  const rows = runs.map((id) => {
    const row = history.runs.find(id)
    if (!row) throw new EspalierError('not-found', `There is no run ${id}.`)
    if (!row.has_plan) throw new EspalierError('conflict', `"${row.name}" has no plan to look at: it is ${row.status}. ${adviceOn(row)}`)
    return row
  })
  const other = rows.find(({ model }) => model !== rows[0]?.model)
  if (other)
    throw new EspalierError(
      'conflict',
      `"${rows[0]?.name}" and "${other.name}" belong to two models. Look at the runs of one model at a time.`,
    )
  return rows
}

/** Inspections are computed on this machine, wherever their runs were: what a cluster computed is here once it is done. */
function adviceOn({ executor, status }: RunRow): string {
  if (status === 'done') return 'Choose a run that pruned.'
  if (executor === null) return 'Wait until it is done.'
  return `It is for the cluster "${executor}"; when it is done there, its plan is here and it can be looked at.`
}

/** What an inspection is called unless it gets a name: what it is, and of whom. */
export function inspectionName(context: Context, inspect: Inspection): string {
  const names = subjectsOf(context, inspect).map(({ name }) => name)
  return `${titleOfMethod(inspect.kind)}: ${names.join(', ')}`.slice(0, 200)
}

/** The experiment that all of the runs belong to, if it is one. */
export function sharedExperiment(context: Context, inspect: Inspection): string | null {
  const experiments = new Set(subjectsOf(context, inspect).map(({ experiment }) => experiment))
  return experiments.size === 1 ? ([...experiments][0] ?? null) : null
}

/** A page of tokens: the result of a step, which is there before the run is done. */
export function tokensOf({ history }: Pick<Context, 'history'>, { id, name, status }: RunRow, page: number): TokenPage {
  const step = history.steps.named(id, pageStep(page))
  const found = step === undefined ? undefined : history.steps.get(id, step)
  if (found) return (found.value as { value: TokenPage }).value
  const state = status === 'done' ? 'it has fewer pages, or they stayed where it was computed' : `it is ${status}`
  throw new EspalierError('not-found', `"${name}" has no page ${page} of tokens: ${state}.`)
}
