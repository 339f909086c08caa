import type { RunEntry } from '../runs/runs.ts'
import { isTimed, speedUpOf } from '../runs/time/speed.ts'
import { denseMethod } from '../titles.ts'
import { rivalSets, whyResultsApart } from './comparable.ts'
import { differenceOf } from './difference.ts'
import type { MeasureColumn } from './measure-columns.ts'
import { counted, type SeedGroup } from './seeds.ts'

/** Results compete at a sparsity only if theirs differs from it by at most this much. */
export const sparsityTolerance = 0.01

/** Whether two sparsities are near enough for their results to compete. */
export const isNear = (first: number, second: number): boolean => Math.abs(first - second) <= sparsityTolerance + 1e-9

/** The mark of a cell that is one of `leaders`; 0 if it is not one of them. */
export const markOf = (leaders: number): { best: boolean; tied?: true } =>
  leaders > 1 ? { best: true, tied: true } : { best: leaders === 1 }

type Measured = Pick<SeedGroup<RunEntry>, 'runs' | 'measures'>
type Pruned = Measured & Pick<SeedGroup<RunEntry>, 'reached'>

/**
 * Returns the best results by a measure, and how many share the first place with each, itself included. A result competes with all of
 * nearly its sparsity that it can be compared with: it is among the best if it does not differ clearly from the best of these. A result
 * without a rival is not the best, and neither is one that cannot be compared with the pinned baseline: tables call it "not compared".
 * Sizes have no best, because they follow from the amount asked for.
 */
export function bestOf<Group extends Pruned>(
  results: readonly Group[],
  column: MeasureColumn,
  baseline: Measured | null,
): Map<Group, number> {
  if (counted.has(column.unit)) return new Map()
  const isCompared = (result: Group) => !baseline || whyResultsApart(result, baseline, [column]) === null
  const measured = results.filter((result) => result.measures.has(column.id) && isCompared(result))
  const best = rivalSets(measured, [column]).flatMap(({ results: same, rivals }) =>
    [...Map.groupBy(same, sparsityOf)].flatMap(([sparsity, own]) => {
      const near = rivals.filter((rival) => isNear(sparsityOf(rival), sparsity))
      const leaders = near.length > 1 ? leadersOf(near, column) : []
      return own.filter((result) => leaders.includes(result)).map((result) => [result, leaders.length] as const)
    }),
  )
  return new Map(best)
}

/** The sparsity at which a result competes: the one asked for, or if it missed that the one it reached. */
function sparsityOf({ runs: [run], reached }: Pruned): number {
  const asked = run?.nominal ?? reached ?? (run?.method === denseMethod ? 0 : Number.NaN)
  return reached === null || isNear(reached, asked) ? asked : reached
}

/**
 * Returns the best of some results that can be compared, and then all that do not differ clearly from it. One is left out if nothing shows
 * how much both vary. Times are compared by their speed-up if all results have one, because changes of times are derived from it.
 */
export function leadersOf<Group extends Measured>(results: readonly Group[], column: MeasureColumn): Group[] {
  const pace = speedUpOf(column)
  const isPaced = pace !== null && results.every(({ measures }) => measures.has(pace))
  const [by, sign] = isPaced ? [pace, -1] : [column.id, column.lowerIsBetter ? 1 : -1]
  const signedMean = ({ measures }: Group) => (measures.get(by)?.mean ?? Number.NaN) * sign
  const [top, ...others] = [...results].sort((a, b) => signedMean(a) - signedMean(b))
  if (!top) return []
  const isTied = (result: Group) =>
    signedMean(result) === signedMean(top) || (!isTimed(column) && differenceOf(top, result, column)?.clear === false)
  return [top, ...others.filter(isTied)]
}

/**
 * Ranks results that can be compared: 1, and one more for each result that is clearly better. Results without a clear difference share a
 * rank. If nothing shows how much they vary, the better number counts, as it does for `leadersOf`.
 */
export function ranksOf<Group extends Measured>(results: readonly Group[], column: MeasureColumn): Map<Group, number> {
  const mean = ({ measures }: Group) => measures.get(column.id)?.mean ?? Number.NaN
  const isBetter = (one: Group, other: Group) =>
    differenceOf(one, other, column)?.clear !== false && (column.lowerIsBetter ? mean(one) < mean(other) : mean(one) > mean(other))
  return new Map(results.map((result) => [result, 1 + results.filter((other) => other !== result && isBetter(other, result)).length]))
}
