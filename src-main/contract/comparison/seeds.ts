import { at } from '../at.ts'
import type { RunEntry } from '../runs/runs.ts'
import type { ComparedRun } from './compare.ts'
import { measureColumns, measureOf } from './measure-columns.ts'
import { meanAndSpread } from './statistics.ts'

/** A measure over seeds. `spread` is the deviation over seeds, or for a single run its standard error. `count` is the number of runs. */
export interface MeasureOverSeeds {
  mean: number
  spread: number | null
  count: number
}

/** Returns the standard error of a mean over seeds. For a single run it is `spread`, which already is a standard error. */
export const standardError = ({ spread, count }: MeasureOverSeeds): number | null => (spread === null ? null : spread / Math.sqrt(count))

/** Runs that differ only in the seed. */
export interface SeedGroup<Run extends RunEntry = ComparedRun> {
  /** `2SSP 25 %, 3 seeds`, or the run's own name for a single run. If groups have several models, the model's name follows. */
  name: string
  runs: Run[]
  seeds: number
  /** Mean of the reached sparsities. */
  reached: number | null
  measures: Map<string, MeasureOverSeeds>
}

/** Units of sizes. Their deviation over seeds is not shown, because sizes follow from the plan. */
const counted = new Set(['parameters', 'bytes'])

/** Groups runs that differ only in the seed, with mean and standard deviation (n - 1) of each measure. */
export function groupOverSeeds<Run extends RunEntry>(runs: readonly Run[]): SeedGroup<Run>[] {
  return nameModels([...Map.groupBy(runs, seedlessKey).values()].map(groupOf))
}

/** One group for each run. */
export function groupEach<Run extends RunEntry>(runs: readonly Run[]): SeedGroup<Run>[] {
  return nameModels(runs.map((run) => groupOf([run])))
}

/** Whether the runs belong to more than one model. */
export const hasSeveralModels = (runs: readonly RunEntry[]): boolean => new Set(runs.map(({ model }) => model.id)).size > 1

/** Adds the model to the names of groups if there are several models. */
function nameModels<Run extends RunEntry>(groups: SeedGroup<Run>[]): SeedGroup<Run>[] {
  if (!hasSeveralModels(groups.flatMap(({ runs }) => runs))) return groups
  return groups.map((group) => ({ ...group, name: `${group.name}, ${at(group.runs, 0).model.name}` }))
}

export function hasSeveralSeeds(runs: readonly RunEntry[]): boolean {
  return groupOverSeeds(runs).some(({ seeds }) => seeds > 1)
}

/** Returns a run's name without its seed. */
export const seedlessName = (name: string): string => name.replace(/, seed \d+/, '')

function groupOf<Run extends RunEntry>(runs: Run[]): SeedGroup<Run> {
  // If a seed was run twice, the later run counts. Runs without measures count only if no run has any.
  const measured = runs.filter(({ measures }) => measures.length > 0)
  const once = [...new Map((measured.length > 0 ? measured : runs).map((run) => [run.seed, run])).values()]
  const [first] = runs
  const reached = once.flatMap((run) => run.reached ?? [])
  const name = first?.name ?? ''
  return {
    name: once.length > 1 ? `${seedlessName(name)}, ${once.length} seeds` : name,
    runs,
    seeds: once.length,
    reached: reached.length > 0 ? meanAndSpread(reached).mean : null,
    measures: new Map(measureColumns(once).map(({ id, unit }) => [id, overSeeds(once, id, counted.has(unit))])),
  }
}

function overSeeds(members: readonly RunEntry[], id: string, isCount: boolean): MeasureOverSeeds {
  const found = members.flatMap((run) => measureOf(run, id) ?? [])
  const [only] = found
  if (found.length === 1 && only) return { mean: only.value, spread: only.error ?? null, count: 1 }
  const { mean, spread } = meanAndSpread(found.map(({ value }) => value))
  // Equal values can have a tiny deviation, because their mean is rounded.
  const isRounding = spread !== null && spread < 1e-12 * Math.abs(mean)
  return { mean, spread: isCount ? null : isRounding ? 0 : spread, count: found.length }
}

const seedlessKey = (run: RunEntry): string => `${run.nominal} ${keyOf(run, (name) => name !== 'seed')}`

/** Returns a key that is equal for runs that differ only in amount and seed. Charts connect these with a line. */
export const lineKey = (run: RunEntry): string => keyOf(run, (name) => name !== 'seed' && !name.startsWith('amount.'))

function keyOf({ model, fingerprint, method, parameters }: RunEntry, counts: (name: string) => boolean): string {
  const counted = Object.entries(parameters).filter(([name]) => counts(name))
  return JSON.stringify([model.id, fingerprint, method, counted.sort(([a], [b]) => (a < b ? -1 : 1))])
}
