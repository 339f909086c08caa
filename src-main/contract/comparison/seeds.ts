import { at } from '../at.ts'
import { hasSeveralModels, modelNames } from '../runs/model-names.ts'
import type { MeasureSummary, RunEntry } from '../runs/runs.ts'
import { isTimed } from '../runs/time/speed.ts'
import { comparableSets, isPerToken } from './comparable.ts'
import type { ComparedRun } from './compared-run.ts'
import { areOneResult, onePerSeed } from './difference.ts'
import { measureColumns, measureId, measureOf } from './measure-columns.ts'
import { type Interval, meanAndSpread, meanOf, studentQuantile, weightedMeanAndError } from './statistics.ts'

/**
 * A measure over seeds. `spread` is the deviation over seeds, or for a single run its standard error. `count` is the number of runs. With
 * `factor`, as for perplexities, the mean is geometric and the spread is a factor of at least 1: the exponential of the logarithms'
 * deviation.
 */
export interface MeasureOverSeeds {
  mean: number
  spread: number | null
  count: number
  factor: boolean
}

/** Returns the standard error of a mean over seeds, a factor like its spread. For a single run it is `spread`, already a standard error. */
export function standardError({ spread, count, factor }: MeasureOverSeeds): number | null {
  if (spread === null) return null
  return factor ? spread ** (1 / Math.sqrt(count)) : spread / Math.sqrt(count)
}

/** An interval that is a larger factor up and down bounds nothing: two perplexities that differ by a factor of two reach 82. */
export const widest = 10

/**
 * Returns the 95 % interval of a group's mean: Student's over seeds, or for a single run over its windows or questions. Null if nothing
 * shows how much the value varies, for a single run's times, whose error is how far repeated timings differ, and for perplexities beyond
 * `widest`. No measure is below 0, and no share is above 1.
 */
export function intervalOf({ runs, measures }: Pick<SeedGroup<RunEntry>, 'runs' | 'measures'>, id: string): Interval | null {
  const found = measures.get(id)
  const [taken] = runs.flatMap((run) => measureOf(run, id) ?? [])
  const error = found && (standardError(found) ?? (found.count === 1 && taken ? errorOverWindows(taken) : null))
  if (!found || !error) return null
  const { mean, count, factor } = found
  if (count === 1 && taken && isTimed(taken)) return null
  const units = count > 1 ? count : (taken?.on?.count ?? Number.POSITIVE_INFINITY)
  if (units < 2) return null
  const width = studentQuantile(0.975, units - 1)
  if (factor) return error ** width > widest ? null : { low: mean / error ** width, high: mean * error ** width }
  const most = taken?.unit === 'share' ? 1 : Number.POSITIVE_INFINITY
  return { low: Math.max(0, mean - error * width), high: Math.min(most, mean + error * width) }
}

/** The standard error of a single perplexity as a factor, by the losses of its windows. */
function errorOverWindows({ name, losses = [], predicted }: MeasureSummary): number | null {
  if (!isPerToken(name) || losses.length < 2) return null
  return Math.exp(weightedMeanAndError(losses, predicted ?? losses.map(() => 1)).error)
}

/**
 * Returns the lower and the upper end of a bar of one spread around a value. On a logarithmic axis it is a factor up and down, so that it
 * never leaves the axis.
 */
export function barEnds(
  value: number,
  spread: number,
  { factor = false, log = false }: { factor?: boolean; log?: boolean },
): [number, number] {
  if (factor) return [value / spread, value * spread]
  if (log && value > 0) return [value / (1 + spread / value), value + spread]
  return [value - spread, value + spread]
}

/** Runs that differ only in the seed, and whose numbers may be compared with each other. */
export interface SeedGroup<Run extends RunEntry = ComparedRun> {
  /**
   * `2SSP 25 %, 3 seeds`, `ShortGPT 25 %, 3 equal seeds`, or the run's own name for a single run. If groups have several models, the model's
   * name follows.
   */
  name: string
  /** The name of its model, which tells a replaced model from what it was before. */
  model: string
  runs: Run[]
  /** How many results there are: one for each seed, but a single one if all seeds led to the same model. */
  seeds: number
  /** How many seeds led to the same model; 0 if they did not, or if there is one. */
  equalSeeds: number
  /** Mean of the reached sparsities. */
  reached: number | null
  measures: Map<string, MeasureOverSeeds>
}

/** Units of sizes. Their deviation over seeds is not shown, because sizes follow from the plan. */
export const counted = new Set(['parameters', 'bytes'])

/** Groups runs that differ only in the seed, with the mean and the deviation (n - 1) of each measure. */
export function groupOverSeeds<Run extends RunEntry>(runs: readonly Run[]): SeedGroup<Run>[] {
  const alike = [...Map.groupBy(runs, seedlessKey).values()]
  // A seed that was measured on other windows belongs to another mean.
  const sets = alike.flatMap((own) =>
    comparableSets(
      own.map((run) => ({ runs: [run] })),
      measureColumns(own),
    ),
  )
  return nameModels(sets.map((set) => groupOf(set.flatMap((one) => one.runs))))
}

/** One group for each run. */
export function groupEach<Run extends RunEntry>(runs: readonly Run[]): SeedGroup<Run>[] {
  return nameModels(runs.map((run) => groupOf([run])))
}

/** Names the model of each group, in the names of groups too if there are several models. */
function nameModels<Run extends RunEntry>(groups: Omit<SeedGroup<Run>, 'model'>[]): SeedGroup<Run>[] {
  const runs = groups.flatMap((group) => group.runs)
  const [nameOf, isNamed] = [modelNames(runs), hasSeveralModels(runs)]
  return groups.map((group) => {
    const model = nameOf(at(group.runs, 0))
    return { ...group, model, name: isNamed ? `${group.name}, ${model}` : group.name }
  })
}

export function hasSeveralSeeds(runs: readonly RunEntry[]): boolean {
  return groupOverSeeds(runs).some(({ seeds }) => seeds > 1)
}

/** Returns the name of a run or a group without its seeds. */
export const seedlessName = (name: string): string => name.replace(/, (seed \d+|\d+ (equal )?seeds)/, '')

function groupOf<Run extends RunEntry>(runs: Run[]): Omit<SeedGroup<Run>, 'model'> {
  // If a seed was run twice, the later run counts. Runs without measures count only if no run has any.
  const measured = runs.filter(({ measures }) => measures.length > 0)
  const once = onePerSeed(measured.length > 0 ? measured : runs)
  const [first] = runs
  const reached = once.flatMap((run) => run.reached ?? [])
  const name = first?.name ?? ''
  const isOne = areOneResult(once)
  const results = isOne ? once.slice(0, 1) : once
  return {
    name: once.length > 1 ? `${seedlessName(name)}, ${once.length} ${isOne ? 'equal ' : ''}seeds` : name,
    runs,
    seeds: results.length,
    equalSeeds: isOne ? once.length : 0,
    reached: reached.length > 0 ? meanOf(reached) : null,
    // Times of equal models are still measured once for each.
    measures: new Map(
      measureColumns(once).map((column) => [column.id, overSeeds(isTimed(column) || column.unit === 's' ? once : results, column)]),
    ),
  }
}

function overSeeds(members: readonly RunEntry[], column: { name: string; dataset: string; unit: string }): MeasureOverSeeds {
  const found = members.flatMap((run) => measureOf(run, measureId(column)) ?? [])
  const factor = isPerToken(column.name)
  const [only] = found
  if (found.length === 1 && only) {
    const { value, error = null } = only
    return { mean: value, spread: factor && error !== null ? 1 + error / value : error, count: 1, factor }
  }
  const { mean, spread } = meanAndSpread(found.map(({ value }) => (factor ? Math.log(value) : value)))
  // Equal values can have a tiny deviation, because their mean is rounded.
  const isRounding = spread !== null && spread < 1e-12 * Math.abs(mean)
  const exact = isRounding ? 0 : spread
  if (factor) return { mean: Math.exp(mean), spread: exact === null ? null : Math.exp(exact), count: found.length, factor }
  return { mean, spread: counted.has(column.unit) ? null : exact, count: found.length, factor }
}

/** What a size or a speed removes depends on the seed. */
const isBudget = (name: string): boolean => /^amount\.(bytes|tokensPerSecond|milliseconds)$/.test(name)

const seedlessKey = (run: RunEntry): string => {
  const nominal = Object.keys(run.parameters).some(isBudget) ? '' : run.nominal
  return `${nominal} ${keyOf(run, (name) => name !== 'seed')}`
}

/** Returns a key that is equal for runs that differ only in amount and seed. Charts connect these with a line. */
export const lineKey = (run: RunEntry): string => keyOf(run, (name) => name !== 'seed' && !name.startsWith('amount.'))

function keyOf({ model, fingerprint, method, parameters }: RunEntry, counts: (name: string) => boolean): string {
  const chosen = Object.entries(parameters).filter(([name]) => counts(name))
  return JSON.stringify([model.id, fingerprint, method, chosen.sort(([a], [b]) => (a < b ? -1 : 1))])
}
