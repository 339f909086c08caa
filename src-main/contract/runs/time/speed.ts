/** A time should not be quoted if other programs use more than this share of the processor, or if passes differ by more than this share. */
const noisyShare = 0.1

/** How busy other programs kept the machine while it was timed. It is recorded beside times, but is not a result of the run. */
export const loadMeasure = { name: 'load by others', dataset: 'while timing' } as const

interface Value {
  readonly name: string
  readonly dataset: string
  readonly value: number
  readonly error?: number | undefined
}

/** Whether a measure is a duration that depends on the machine's load. */
export function isTimed({ name }: { name: string }): boolean {
  return /^(inference time|time to first token|tokens per second|speed-up)$/.test(name)
}

/** Marks the data set of a time as measured in llama.cpp, so that it is not compared with a time of Espalier's own runtimes. */
export const inLlama = (dataset = ''): string => `${dataset}${dataset ? ' ' : ''}in llama.cpp`

/** Whether a time was measured in llama.cpp. */
export const isInLlama = (dataset: string): boolean => dataset.endsWith('in llama.cpp')

/** Returns the reasons why the times of a run should not be quoted; empty if they may be quoted. */
export function noiseOfTimes(measures: readonly Value[]): string[] {
  const load = measures.find(({ name }) => name === loadMeasure.name)?.value ?? 0
  const pass = measures.find(({ name, dataset }) => name === 'inference time' || dataset === inLlama('prefill'))
  const uneven = pass?.error ? pass.error / pass.value : 0
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`
  return [
    ...(load > noisyShare ? [`other programs used ${percent(load)} of the processor`] : []),
    ...(uneven > noisyShare ? [`passes differ by ${percent(uneven)} from their median`] : []),
  ]
}

/** Returns the id of the speed-up over the dense model, timed in turns with it, that belongs to this measure; null if there is none. */
export function speedUpOf({ name, dataset }: { name: string; dataset: string }): string | null {
  if (name === 'inference time') return 'speed-up/prefill'
  if (name === 'tokens per second') return `speed-up/${dataset}`
  return null
}

/**
 * Returns the value to compare a measure with. For times this is what the other run would have taken in the same minutes, derived from the
 * speed-ups of both runs (1 for the dense model). For other measures it is the other run's value. Undefined if no fair comparison is
 * possible.
 */
export function comparedValue(
  measure: { name: string; dataset: string },
  value: number,
  own: (id: string) => number | undefined,
  other: (id: string) => number | undefined,
  otherIsDense: boolean,
): number | undefined {
  const { name, dataset } = measure
  if (name === loadMeasure.name) return undefined
  if (!isTimed(measure) || name === 'speed-up') return other(dataset ? `${name}/${dataset}` : name)
  const pace = speedUpOf(measure)
  const [ours, theirs] = pace ? [own(pace), other(pace) ?? (otherIsDense ? 1 : undefined)] : []
  if (ours === undefined || theirs === undefined) return undefined
  return name === 'inference time' ? (value * ours) / theirs : (value * theirs) / ours
}
