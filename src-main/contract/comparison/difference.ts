import { at } from '../at.ts'
import type { MeasureSummary, RunEntry } from '../runs/runs.ts'
import { denseMethod } from '../titles.ts'
import { formatNumber } from './cell-text.ts'
import { bitsMeasure, isPerToken, whyResultsApart } from './comparable.ts'
import { type MeasureColumn, measureId, measureOf } from './measure-columns.ts'
import { noiseLevel } from './paired-questions.ts'
import {
  type Interval,
  mcnemar,
  meanAndSpread,
  meanOf,
  pairedShares,
  studentQuantile,
  studentTail,
  weightedMeanAndError,
} from './statistics.ts'

/** What an interval is based on: what was drawn from many that could have been. */
type Unit = 'window' | 'seed' | 'answer'

/** How the first of two results differs from the second, with the 95 % interval of the difference. */
export interface Difference extends Interval {
  /** Whether the numbers are factors, as for perplexities, instead of differences. */
  factor: boolean
  value: number
  /** Whether the interval leaves out that both are equal. If not, there is no clear difference. */
  clear: boolean
  /** How often chance alone differs as much, two-sided: the largest of the tests that must agree. */
  probability: number
  /** How many of `unit` the interval is based on. */
  count: number
  unit: Unit
}

/** One result: a run, or several that differ in the seed only. */
interface Result {
  readonly runs: readonly RunEntry[]
}

type Column = Pick<MeasureColumn, 'name' | 'dataset'>

/** Perplexities within this share of each other are equal: other kernels and orders of summation change as much. */
const computedShare = 1e-4

/** The level of all intervals. */
const upperShare = 0.975

/**
 * Compares two results by a measure. Perplexities are compared by their logarithms, which are mean losses, and the interval is one of their
 * factor.
 *
 * Windows, prompts and questions are the same for both, so differences are taken in pairs, of means over seeds. For losses the interval is
 * Student's: each difference is a mean of many tokens, so nearly normal, and a percentile bootstrap of eight windows would be too narrow.
 * For answers it is that of Bonett and Price (2012), and McNemar's exact test must agree if both results are single runs. With several
 * seeds, the interval over seeds is computed too, and the wider one counts: Student's over pairs if both have the same seeds, because a seed
 * draws the same text for all methods, else Welch's. A pruned result with a single seed is taken to vary as much as the other; an unpruned
 * model does not depend on the seed.
 *
 * Null if the numbers may not be compared (see `whyApart`), or if nothing shows how much they vary.
 */
export function differenceOf(first: Result, second: Result, column: Column): Difference | null {
  if (whyResultsApart(first, second, [column]) !== null) return null
  const factor = isPerToken(column.name)
  const levelsOf = (result: Result) =>
    resultsOf(result, column).map((run) => {
      const { value } = measureOf(run, measureId(column)) as MeasureSummary
      return { seed: run.seed, level: factor ? Math.log(value) : value }
    })
  const [own, other] = [levelsOf(first), levelsOf(second)]
  if (own.length === 0 || other.length === 0) return null
  const meanLevel = (levels: typeof own) => meanOf(levels.map(({ level }) => level))
  const value = meanLevel(own) - meanLevel(other)
  const ofSeeds = overPairs(own, other) ?? overSeeds({ value, first: own, second: other }, dependsOnSeed(first), dependsOnSeed(second))
  const spreads = [overUnits(first, second, column, value), ofSeeds].flatMap((spread) => spread ?? [])
  if (spreads.length === 0) return null
  const { low, high, count, unit } = spreads.reduce((wide, spread) => (spread.high - spread.low > wide.high - wide.low ? spread : wide))
  const isEqual = factor && Math.abs(value) < computedShare
  const clear = !isEqual && spreads.every((spread) => spread.low > 0 || spread.high < 0) && spreads.every(({ agrees = true }) => agrees)
  const shown = (number: number) => (factor ? Math.exp(number) : number)
  const probability = Math.max(...spreads.map((spread) => spread.probability))
  return { factor, value: shown(value), low: shown(low), high: shown(high), clear, probability, count, unit }
}

/** Keeps the last run of each seed, since a seed may have been run twice. */
export const onePerSeed = <Run extends RunEntry>(runs: readonly Run[]): Run[] => [...new Map(runs.map((run) => [run.seed, run])).values()]

/**
 * Whether all seeds led to the same model: its losses on every text that all measured are equal to the last bit. Such runs are one result,
 * and say nothing about how much others would vary.
 */
export function areOneResult(runs: readonly RunEntry[]): boolean {
  const [first, ...others] = runs
  const losses = first?.measures.filter(({ name }) => isPerToken(name) || name === bitsMeasure) ?? []
  const shared = losses.filter((loss) => others.every((run) => measureOf(run, measureId(loss))))
  const isEqual = (loss: MeasureSummary) => others.every((run) => measureOf(run, measureId(loss))?.value === loss.value)
  return others.length > 0 && shared.length > 0 && shared.every(isEqual)
}

/** The runs with a measure, one for each seed that led to another model. */
const resultsOf = ({ runs }: Result, column: Column): RunEntry[] => {
  const once = onePerSeed(runs.filter((run) => measureOf(run, measureId(column))))
  return areOneResult(once) ? once.slice(0, 1) : once
}

const measuresOf = (result: Result, column: Column): MeasureSummary[] =>
  resultsOf(result, column).flatMap((run) => measureOf(run, measureId(column)) ?? [])

const dependsOnSeed = ({ runs: [run] }: Result): boolean => run !== undefined && run.method !== denseMethod

interface Spread extends Interval {
  probability: number
  count: number
  unit: Unit
  /** Whether a test agrees that there is a difference. */
  agrees?: boolean
}

/** The interval over windows, prompts or questions. */
function overUnits(first: Result, second: Result, column: Column, value: number): Spread | null {
  if (isPerToken(column.name)) return overWindows(measuresOf(first, column), measuresOf(second, column), value)
  if (column.name === bitsMeasure) return overText(first, second, column, value)
  const [firstMeasures, secondMeasures] = [measuresOf(first, column), measuresOf(second, column)]
  return overAnswers(firstMeasures, secondMeasures) ?? fromErrors(firstMeasures, secondMeasures, value)
}

/** Student's interval of the mean difference in loss by window. */
function overWindows(first: readonly MeasureSummary[], second: readonly MeasureSummary[], value: number): Spread | null {
  const count = first[0]?.losses?.length ?? 0
  if (count < 2 || ![...first, ...second].every(({ losses }) => losses?.length === count)) return null
  const meanAt = (measures: readonly MeasureSummary[], window: number) => meanOf(measures.map(({ losses = [] }) => at(losses, window)))
  const differences = Array.from({ length: count }, (_, window) => meanAt(first, window) - meanAt(second, window))
  const { error } = weightedMeanAndError(differences, first[0]?.predicted ?? differences.map(() => 1))
  return around(value, { error, freedom: count - 1 }, { count, unit: 'window' })
}

/**
 * The interval of bits per byte. On the same windows it is that of the perplexities, scaled. Other tokenizers have other windows, which
 * cannot be paired: then it is based on both errors, and too wide rather than too narrow.
 */
function overText(first: Result, second: Result, { dataset }: Column, value: number): Spread | null {
  const column = { name: 'perplexity', dataset }
  const [firstMeasures, secondMeasures] = [
    measuresOf(first, { name: bitsMeasure, dataset }),
    measuresOf(second, { name: bitsMeasure, dataset }),
  ]
  if (whyResultsApart(first, second, [column]) !== null) return fromErrors(firstMeasures, secondMeasures, value)
  const [losses, others] = [measuresOf(first, column), measuresOf(second, column)]
  const spread = overWindows(losses, others, 0)
  const [bits, loss] = [firstMeasures[0]?.value, losses[0] && Math.log(losses[0].value)]
  if (!spread || !bits || !loss) return null
  const freedom = spread.count - 1
  const error = spread.high / studentQuantile(upperShare, freedom)
  return around(value, { error: error * (bits / loss), freedom }, spread)
}

/** The interval of the difference between two shares of the same prompts or questions. */
function overAnswers(first: readonly MeasureSummary[], second: readonly MeasureSummary[]): Spread | null {
  const count = first[0]?.hits?.length ?? 0
  if (count < 2 || ![...first, ...second].every(({ hits }) => hits?.length === count)) return null
  const shareAt = (measures: readonly MeasureSummary[], place: number) => meanOf(measures.map(({ hits = '' }) => Number(hits[place])))
  const differences = Array.from({ length: count }, (_, place) => shareAt(first, place) - shareAt(second, place))
  const gained = differences.reduce((sum, difference) => sum + Math.max(0, difference), 0)
  const lost = differences.reduce((sum, difference) => sum + Math.max(0, -difference), 0)
  const isSingle = first.length === 1 && second.length === 1
  const exact = isSingle ? mcnemar(gained, lost) : 0
  const spread = pairedShares(gained, lost, count)
  return { ...spread, probability: Math.max(spread.probability, exact), count, unit: 'answer', agrees: exact < noiseLevel }
}

/** The interval of two values with standard errors that do not depend on each other. */
function fromErrors(first: readonly MeasureSummary[], second: readonly MeasureSummary[], value: number): Spread | null {
  const errorOf = (measures: readonly MeasureSummary[]) => {
    const errors = measures.flatMap(({ error }) => error ?? [])
    return errors.length === measures.length ? meanOf(errors) : null
  }
  const [firstError, secondError] = [errorOf(first), errorOf(second)]
  if (firstError === null || secondError === null) return null
  const counts = [first[0], second[0]].map((measure) => measure?.on?.count ?? Number.POSITIVE_INFINITY)
  const count = Math.min(...counts)
  const unit = first[0]?.on?.sequenceLength ? 'window' : 'answer'
  return around(
    value,
    { error: Math.hypot(firstError, secondError), freedom: count - 1 },
    { count: Number.isFinite(count) ? count : 0, unit },
  )
}

interface SeedLevel {
  readonly seed: number
  /** The value, or the logarithm of a perplexity. */
  readonly level: number
}

/** Student's interval of the mean difference in pairs of one seed. Null if the results do not have the same seeds, or only one. */
function overPairs(first: readonly SeedLevel[], second: readonly SeedLevel[]): Spread | null {
  const differences = first.flatMap(({ seed, level }) => {
    const pair = second.find((other) => other.seed === seed)
    return pair ? level - pair.level : []
  })
  const count = differences.length
  if (count < 2 || count < first.length || count < second.length) return null
  const { mean, spread } = meanAndSpread(differences)
  return around(mean, { error: (spread ?? 0) / Math.sqrt(count), freedom: count - 1 }, { count, unit: 'seed' })
}

interface Unpaired {
  value: number
  first: readonly SeedLevel[]
  second: readonly SeedLevel[]
}

/** Welch's interval of the difference between two means over seeds. Null if both are single runs. */
function overSeeds({ value, first, second }: Unpaired, firstVaries: boolean, secondVaries: boolean): Spread | null {
  if (first.length === 1 && second.length === 1) return null
  const [one, two] = [first, second].map((levels) => ({
    count: levels.length,
    variance: (meanAndSpread(levels.map(({ level }) => level)).spread ?? 0) ** 2,
  })) as [SeedSpread, SeedSpread]
  const count = Math.min(...[one.count, two.count].filter((seeds) => seeds > 1))
  const borrowed = (one.count === 1 && firstVaries) || (two.count === 1 && secondVaries)
  if (borrowed) {
    const variance = one.variance + two.variance
    const error = Math.sqrt(variance / one.count + variance / two.count)
    return around(value, { error, freedom: count - 1 }, { count, unit: 'seed' })
  }
  const [a, b] = [one.variance / one.count, two.variance / two.count]
  const freedom = (a + b) ** 2 / (a ** 2 / Math.max(1, one.count - 1) + b ** 2 / Math.max(1, two.count - 1))
  return around(value, { error: Math.sqrt(a + b), freedom }, { count, unit: 'seed' })
}

interface SeedSpread {
  count: number
  variance: number
}

/** Student's interval around a value, and his test against 0. */
function around(
  value: number,
  { error, freedom }: { error: number; freedom: number },
  { count, unit }: Pick<Spread, 'count' | 'unit'>,
): Spread {
  const half = error === 0 ? 0 : error * studentQuantile(upperShare, freedom)
  const exact = value === 0 ? 1 : 0
  return {
    low: value - half,
    high: value + half,
    probability: error === 0 ? exact : 2 * studentTail(Math.abs(value) / error, freedom),
    count,
    unit,
  }
}

/** The same difference, the second result against the first. */
export function inverse(difference: Difference): Difference {
  const { factor, value, low, high } = difference
  const turn = (number: number) => (factor ? 1 / number : -number)
  return { ...difference, value: turn(value), low: turn(high), high: turn(low) }
}

/** Writes a difference with its 95 % interval: `×0.80 (0.75 to 0.86)`, or for shares `+20 points (−4 to +44)`. */
export function differenceText({ factor, value, low, high }: Difference, unit = ''): string {
  const write = factor ? factorText : unit === 'share' ? pointsText : signedText
  return `${factor ? '×' : ''}${write(value)}${unit === 'share' ? ' points' : ''} (${write(low)} to ${write(high)})`
}

/** What an interval is based on: `8 windows`. */
export const basisText = ({ count, unit }: Difference): string => (count === 0 ? 'standard errors' : `${count} ${unit}s`)

/** Writes three significant digits, but all digits of whole thousands. */
function factorText(value: number): string {
  const rounded = Number(value.toPrecision(3))
  if (rounded >= 1000) return Math.round(value).toLocaleString('en')
  return rounded < 0.001 ? formatNumber(value) : value.toPrecision(3)
}

const pointsText = (value: number): string => signOf(value) + (100 * Math.abs(value)).toFixed(0)
const signedText = (value: number): string => signOf(value) + Number(Math.abs(value).toPrecision(2)).toString()
const signOf = (value: number): string => (value < 0 ? '−' : '+')
