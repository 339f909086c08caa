import type { CombinationPreview, Grid, GridPreview } from '#contract/experiments.ts'
import type { Problem, RequestPreview } from '#contract/preflight.ts'
import { denseMethod } from '#contract/titles.ts'
import type { Context } from './context.ts'
import { overSeeds, type PlannedRun } from './grid.ts'

/** The preview of a grid, from what the preflight said of each of its combinations. */
export function previewOf({ history }: Pick<Context, 'history'>, grid: Grid, planned: PlannedRun[], found: RequestPreview[]): GridPreview {
  const pruning = planned
    .map((one, at) => ({ ...one, preview: found[at] as RequestPreview }))
    .filter(({ request }) => request.method !== denseMethod)
  const combinations = pruning.map(({ model, request, preview }): CombinationPreview => {
    const { method, amount, repair } = request
    const { problems, notes: _, fetches: __, ...known } = preview
    const infeasible = problems.find(({ code }) => code === 'infeasible')
    return {
      ...known,
      model,
      method,
      amount,
      repair: repair?.kind ?? 'none',
      runs: overSeeds({ model, request }, grid.seeds).length,
      feasible: !infeasible,
      problem: infeasible?.message ?? null,
      seconds: history.runs.usualSeconds(model, method),
    }
  })
  const known = combinations.every(({ seconds }) => seconds !== null)
  const memory = combinations.flatMap(({ memoryBytes }) => memoryBytes ?? [])
  const places = new Map(pruning.map(({ preview }, at) => [preview, at]))
  return {
    combinations,
    runs: grid.models.length + combinations.reduce((sum, { runs }) => sum + runs, 0),
    seconds: known && combinations.length > 0 ? combinations.reduce((sum, { seconds, runs }) => sum + (seconds ?? 0) * runs, 0) : null,
    memoryBytes: memory.length > 0 ? Math.max(...memory) : null,
    problems: distinct(
      found.flatMap((preview, at) => preview.problems.map((problem) => placed(problem, grid, planned[at], places.get(preview)))),
    ),
    notes: [...new Set(found.flatMap(({ notes }) => notes))],
  }
}

/** A problem of a request as one of the grid that it came from. */
function placed(problem: Problem, grid: Grid, planned: PlannedRun | undefined, combination: number | undefined): Problem {
  if (problem.code === 'infeasible') return { ...problem, field: `combinations.${combination ?? 0}` }
  if (!/^(options|method)/.test(problem.field)) return problem
  const at = grid.methods.findIndex(({ method, options }) => method === planned?.request.method && options === planned.request.options)
  return { ...problem, field: `methods.${at}.${problem.field}` }
}

function distinct(problems: readonly Problem[]): Problem[] {
  return [...new Map(problems.map((problem) => [`${problem.field} ${problem.message}`, problem])).values()]
}
