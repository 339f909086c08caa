import { rivalType } from '../exports/file-bench.ts'
import { isLowerBetter } from '../runs/measures.ts'
import type { MeasureSummary, RunEntry } from '../runs/runs.ts'
import { isInLlama } from '../runs/time/speed.ts'
import { everyTaskTitle } from '../titles.ts'

/** A measure as a column. Its id is `name` or `name/dataset`. */
export interface MeasureColumn {
  id: string
  name: string
  dataset: string
  unit: string
  lowerIsBetter: boolean
}

/** The main measure of each kind of task. */
export const taskMeasures = ['accuracy', 'exact match', 'prompts followed'] as const
export type TaskMeasure = (typeof taskMeasures)[number]

export const isTaskMeasure = (name: string): name is TaskMeasure => taskMeasures.some((one) => one === name)

export function measureId(measure: { name: string; dataset: string }): string {
  return measure.dataset ? `${measure.name}/${measure.dataset}` : measure.name
}

/** Returns the measures that at least one run has, in order of first appearance. */
export function measureColumns(runs: readonly Pick<RunEntry, 'measures'>[]): MeasureColumn[] {
  const columns = new Map<string, MeasureColumn>()
  for (const run of runs) {
    for (const { name, dataset, unit } of run.measures) {
      const id = measureId({ name, dataset })
      if (!columns.has(id)) columns.set(id, { id, name, dataset, unit, lowerIsBetter: isLowerBetter(name) })
    }
  }
  return [...columns.values()]
}

export function measureOf(run: Pick<RunEntry, 'measures'>, id: string): MeasureSummary | undefined {
  return run.measures.find((measure) => measureId(measure) === id)
}

const titles: ReadonlyMap<string, string> = new Map([...Object.entries(everyTaskTitle), ['met by one token', 'active for each token']])

/** Returns the title of what a measure was taken on, such as a task. The name of a text is its title. */
export const subjectTitle = (dataset: string): string => titles.get(dataset) ?? dataset

/**
 * Returns the name of a measure, and of a speed-up also over what: files are timed in turns with the dense model in F16, whatever their
 * type.
 */
export const measureTitle = ({ name, dataset }: { name: string; dataset: string }): string =>
  name === 'speed-up' ? `speed-up over ${isInLlama(dataset) ? `the dense ${rivalType} file` : 'the dense model'}` : name

/** Returns the heading of a column: `perplexity (wikitext2)`, `size [bytes]`. */
export function columnLabel({ name, dataset, unit }: MeasureColumn): string {
  const own = measureTitle({ name, dataset })
  const title = dataset ? `${own} (${subjectTitle(dataset)})` : own
  return unit && unit !== name ? `${title} [${unit}]` : title
}
