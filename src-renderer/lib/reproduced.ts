import { measureId } from '#contract/comparison/measure-columns.ts'
import type { Reproduced } from '#contract/runs/run-request.ts'
import { isTimed, loadMeasure } from '#contract/runs/time/speed.ts'
import { formatMeasure } from './format.ts'

/** A number of a description as text, and the same number of a run; null if it has none. */
interface ReproducedNumber {
  title: string
  described: string
  here: string | null
  equal: boolean
}

/** Measures that differ from run to run. */
const unstable = new Set<string>([loadMeasure.name, 'pruning time', 'memory'])

/**
 * Compares the numbers of a description with a run's. Times are left out, because no two runs take equally long. Numbers that differ only in
 * digits that are usually not shown have all of them.
 */
export function reproducedNumbers(
  described: Reproduced['measures'],
  measures: readonly { name: string; dataset: string; value: number }[],
): ReproducedNumber[] {
  const isStable = (one: { name: string }) => !isTimed(one) && !unstable.has(one.name)
  return described.filter(isStable).map((one) => {
    const { name, dataset, value, unit } = one
    const here = measures.find((measure) => measureId(measure) === measureId(one))?.value ?? null
    const equal = here === value
    const looksEqual = here !== null && formatMeasure(here, unit) === formatMeasure(value, unit)
    const textOf = (number: number) => (looksEqual && !equal ? String(number) : formatMeasure(number, unit))
    return { title: `${name} ${dataset}`.trim(), described: textOf(value), here: here === null ? null : textOf(here), equal }
  })
}
