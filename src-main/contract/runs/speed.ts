/** Share of the machine that others may use, or by which half of the passes may differ, before a time should not be quoted. */
export const noisyShare = 0.1

/** What is said beside times: how busy others kept the machine meanwhile. It is no result of the run. */
export const loadMeasure = { name: 'load by others', dataset: 'while timing' }

interface Value {
  readonly name: string
  readonly dataset: string
  readonly value: number
  readonly error?: number | undefined
}

/** Whether a measure says how long something took on the machine as it was then. */
export function isTimed({ name }: { name: string }): boolean {
  return /^(inference time|time to first token|tokens per second|speed-up)$/.test(name)
}

/** Why the times of a run should not be quoted; none where they may be. */
export function noiseOfTimes(measures: readonly Value[]): string[] {
  const load = measures.find(({ name }) => name === loadMeasure.name)?.value ?? 0
  const pass = measures.find(({ name }) => name === 'inference time')
  const uneven = pass?.error ? pass.error / pass.value : 0
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`
  return [
    ...(load > noisyShare ? [`other programs used ${percent(load)} of the processor`] : []),
    ...(uneven > noisyShare ? [`half of the passes differ by more than ${percent(uneven)} from their median`] : []),
  ]
}

/** The speed-up that was timed in turns with the dense model and says how this measure changed; null where none does. */
export function speedUpOf({ name, dataset }: { name: string; dataset: string }): 'speed-up/prefill' | 'speed-up/decode' | null {
  if (name === 'inference time') return 'speed-up/prefill'
  if (name === 'tokens per second') return dataset === 'decode' ? 'speed-up/decode' : 'speed-up/prefill'
  return null
}

/**
 * What a measure of one run is compared with: another run's value or, of times, what the other would have taken in the same minutes, by the
 * speed-ups that each was timed with (1 of the dense model). Undefined where nothing fair can be said.
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
  const [ours, theirs] = pace ? [own(pace), otherIsDense ? 1 : other(pace)] : []
  if (ours === undefined || theirs === undefined) return undefined
  return name === 'inference time' ? (value * ours) / theirs : (value * theirs) / ours
}
