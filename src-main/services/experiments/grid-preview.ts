import type { CombinationPreview, Grid, GridPreview } from '#contract/experiments/experiments.ts'
import type { Problem, RequestPreview } from '#contract/runs/preflight.ts'
import type { RunEstimate } from '#contract/runs/time/estimate.ts'
import { addRanges } from '#contract/runs/time/time-left.ts'
import { denseMethod } from '#contract/titles.ts'
import { withoutShared } from './estimate-seconds.ts'
import { overSeeds, type PlannedRun, runName } from './grid.ts'

/** The preflight's preview of a combination, with its estimate. */
type FoundPreview = RequestPreview & { readonly estimate: Omit<RunEstimate, 'run'> | null }

/** Returns the preview of a grid. `found` has a preview for each entry of `planned`. */
export function previewOf(grid: Grid, planned: PlannedRun[], found: FoundPreview[]): GridPreview {
  const pruning = planned
    .map((one, at) => ({ ...one, preview: found[at] as FoundPreview }))
    .filter(({ request }) => request.method !== denseMethod || request.weights !== undefined)
  const combinations = pruning.map((one) => combinationOf(one, grid))
  const memory = combinations.flatMap(({ memoryBytes }) => memoryBytes ?? [])
  const indices = new Map(pruning.map(({ preview }, at) => [preview, at]))
  return {
    combinations,
    runs: grid.models.length + (grid.siblings?.length ?? 0) + combinations.reduce((sum, { runs }) => sum + runs, 0),
    ...timeOf(grid, planned, found),
    memoryBytes: memory.length > 0 ? Math.max(...memory) : null,
    problems: distinct(
      found.flatMap((preview, at) => preview.problems.map((problem) => attribute(problem, grid, planned[at], indices.get(preview)))),
    ),
    notes: [...new Set(found.flatMap(({ notes }) => notes))],
  }
}

function combinationOf({ model, request, preview }: PlannedRun & { preview: FoundPreview }, grid: Grid): CombinationPreview {
  const { problems, estimate, notes: _notes, fetches: _fetches, work: _work, ...foreseen } = preview
  const infeasible = problems.find(({ code }) => code === 'infeasible')
  const { method, amount, repair, recover } = request
  return {
    ...foreseen,
    name: runName(request, 1),
    model,
    method,
    amount,
    repair: repair?.kind ?? 'none',
    recovery: recover?.amount ?? 'none',
    runs: overSeeds({ model, request }, grid.seeds).length,
    feasible: !infeasible,
    problem: infeasible?.message ?? null,
    seconds: estimate?.seconds ?? null,
  }
}

/** Sums the time of all runs of a grid. Steps that runs of one model and seed share count once. */
function timeOf(grid: Grid, planned: readonly PlannedRun[], found: readonly FoundPreview[]): Pick<GridPreview, 'seconds' | 'basis'> {
  if (planned.length === 0 || found.some(({ estimate }) => estimate === null)) return { seconds: null, basis: null }
  const done = new Map<string, number>()
  const runs = planned.flatMap((one, at) => {
    const estimate = found[at]?.estimate as Omit<RunEstimate, 'run'>
    return overSeeds(one, grid.seeds).map(({ model, request }) => withoutShared(estimate, `${model} ${request.seed}`, done))
  })
  const basis = runs.every((run) => run.basis === 'runs') ? 'runs' : 'machine'
  return { seconds: addRanges(runs.map(({ seconds }) => seconds)), basis }
}

/** Renames the field of a problem, from the field of one request to the field of the grid. */
function attribute(problem: Problem, grid: Grid, planned: PlannedRun | undefined, combination: number | undefined): Problem {
  if (problem.code === 'infeasible') return { ...problem, field: `combinations.${combination ?? 0}` }
  if (!/^(options|method)/.test(problem.field)) return problem
  const at = grid.methods.findIndex(({ method, options }) => method === planned?.request.method && options === planned.request.options)
  return { ...problem, field: `methods.${at}.${problem.field}` }
}

function distinct(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((problem) => [`${problem.field} ${problem.message}`, problem])).values()]
}
