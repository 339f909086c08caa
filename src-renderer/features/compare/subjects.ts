import type { ComparedRun } from '#contract/comparison/compared-run.ts'
import { type MeasureColumn, measureColumns, measureTitle, subjectTitle } from '#contract/comparison/measure-columns.ts'
import type { SeedGroup } from '#contract/comparison/seeds.ts'
import { type Treatment, treatmentOf } from '#contract/comparison/series.ts'
import { loadMeasure } from '#contract/runs/time/speed.ts'
import { orderMeasures } from '../../lib/measures.ts'

/** One compared thing: a run, or several that differ only in the seed. */
export interface Subject {
  id: string
  /** `name` in groups over seeds. */
  label: string
  name: string
  model: string
  method: string
  /** How the plan was repaired or recovered; null if it was not. */
  repair: Treatment | null
  nominal: number | null
  reached: number | null
  baseline: boolean
  runs: ComparedRun[]
  seeds: number
  equalSeeds: number
  measures: SeedGroup['measures']
}

export function toSubject(group: SeedGroup, baseline: string | null): Subject {
  const run = group.runs[0] as ComparedRun
  return {
    id: run.id,
    label: group.name,
    name: group.name,
    model: group.model,
    method: run.method,
    repair: treatmentOf(run),
    nominal: run.nominal,
    reached: group.reached,
    baseline: group.runs.some(({ id }) => id === baseline),
    runs: group.runs,
    seeds: group.seeds,
    equalSeeds: group.equalSeeds,
    measures: group.measures,
  }
}

/** Baseline first, then by sparsity and method; the same order everywhere on the screen. */
export function orderSubjects(subjects: readonly Subject[]): Subject[] {
  return [...subjects].sort(
    (a, b) =>
      Number(b.baseline) - Number(a.baseline) ||
      (a.nominal ?? 0) - (b.nominal ?? 0) ||
      a.method.localeCompare(b.method) ||
      a.label.localeCompare(b.label),
  )
}

/** The measures of the subjects, except the machine's load, which is shown as a mark beside noisy times. */
export function runColumns(subjects: readonly Subject[]): MeasureColumn[] {
  const columns = measureColumns(subjects.flatMap(({ runs }) => runs))
  return orderMeasures(columns.filter(({ name }) => name !== loadMeasure.name))
}

export function columnTitle({ name, dataset }: { name: string; dataset: string }): string {
  const title = measureTitle({ name, dataset })
  return dataset ? `${title}, ${subjectTitle(dataset)}` : title
}
