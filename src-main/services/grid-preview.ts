import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { type CombinationPreview, combinationPreview, type Grid, type GridPreview } from '#contract/experiments.ts'
import type { RunRequest } from '#contract/run-request.ts'
import { askDesk } from './ask-desk.ts'
import type { Context } from './context.ts'
import { type Combination, combinationsOf, requestOf } from './grid.ts'
import type { Library } from './library.ts'

/** What the engine says of one request without loading weights. */
export const requestPreview = combinationPreview.omit({ model: true, method: true, amount: true, repair: true, runs: true, seconds: true })

/** Asks the engine what each combination would remove, and the history how long the like took. */
export async function previewGrid(
  { history, desk }: Pick<Context, 'history' | 'desk'>,
  library: Library,
  grid: Grid,
  signal?: AbortSignal,
): Promise<GridPreview> {
  const combinations = grid.models.flatMap((model) => combinationsOf(grid, model))
  const requests = combinations.map(
    ({ model, method, options, amount, repair }): RunRequest => ({
      ...requestOf(grid, method, options, amount, grid.seeds[0] ?? 0, repair),
      model: library.find(model).path,
    }),
  )
  const answers = requests.length === 0 ? [] : z.array(requestPreview).parse(await askDesk(desk, { kind: 'preview', requests }, signal))
  if (answers.length !== combinations.length)
    throw new EspalierError('internal', `The engine previewed ${answers.length} of ${combinations.length} combinations.`)
  const previews = combinations.map((combination, at): CombinationPreview => {
    const { model, method, amount, repair } = combination
    return {
      ...(answers[at] as z.infer<typeof requestPreview>),
      model,
      method,
      amount,
      repair,
      runs: grid.seeds.length,
      seconds: usualSeconds(history, combination),
    }
  })
  const known = previews.every(({ seconds }) => seconds !== null)
  const memory = previews.flatMap(({ memoryBytes }) => memoryBytes ?? [])
  return {
    combinations: previews,
    runs: grid.models.length + previews.length * grid.seeds.length,
    seconds: known && previews.length > 0 ? previews.reduce((sum, { seconds, runs }) => sum + (seconds ?? 0) * runs, 0) : null,
    memoryBytes: memory.length > 0 ? Math.max(...memory) : null,
    problems: previews.flatMap(({ feasible, problem, method }, at) =>
      feasible ? [] : [{ field: `combinations.${at}`, message: problem ?? `${method} cannot do this.` }],
    ),
  }
}

/** The mean of the latest runs of the same method on the same model; null until there is one. */
function usualSeconds({ runs }: Context['history'], { model, method }: Combination): number | null {
  const latest = runs.lastSeconds(model, method, 5)
  return latest.length === 0 ? null : latest.reduce((sum, seconds) => sum + seconds, 0) / latest.length
}
