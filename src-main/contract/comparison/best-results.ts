import type { RunEntry } from '../runs/runs.ts'
import { isTimed, speedUpOf } from '../runs/time/speed.ts'
import { rivalSets, whyResultsApart } from './comparable.ts'
import { differenceOf } from './difference.ts'
import type { MeasureColumn } from './measure-columns.ts'
import type { SeedGroup } from './seeds.ts'

/** The mark of a cell that is one of `count` leaders, or not. */
export const markOf = (best: boolean, count: number): { best: boolean; tied?: true } =>
  best && count > 1 ? { best, tied: true } : { best }

type Measured = Pick<SeedGroup<RunEntry>, 'runs' | 'measures'>

/**
 * Returns the best results by a measure. Each result competes with all that it can be compared with: it is among the best if it does not
 * differ clearly from the best of these. A result without a rival is not the best, and neither is one that cannot be compared with the
 * pinned baseline: tables call it "not compared".
 */
export function bestOf<Group extends Measured>(results: readonly Group[], column: MeasureColumn, baseline: Measured | null): Set<Group> {
  const isCompared = (result: Group) => !baseline || whyResultsApart(result, baseline, [column]) === null
  const measured = results.filter((result) => result.measures.has(column.id) && isCompared(result))
  const best = rivalSets(measured, [column]).flatMap(({ results: same, rivals }) => {
    if (rivals.length < 2) return []
    const leaders = new Set(leadersOf(rivals, column))
    return same.filter((result) => leaders.has(result))
  })
  return new Set(best)
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
