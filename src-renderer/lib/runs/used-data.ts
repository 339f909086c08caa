import { sourceName } from '#contract/data/source-name.ts'
import { partText, type UsedData } from '#contract/data/used-data.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { formatPlural } from '../format.ts'

/** `32 windows of 256 tokens, drawn with seed 1`. */
export function describeWindows({ windows, sequenceLength, seed, beginToken, split, tokens }: UsedData): string {
  const begun = beginToken ? ', each with the begin token' : ''
  const part = split ? `, ${partText(split)}` : ''
  if (tokens !== undefined) return `all of it, ${formatPlural(tokens, 'token')}${part}`
  return `${formatPlural(windows, 'window')} of ${formatPlural(sequenceLength, 'token')}${part}${begun}${seed === 0 ? '' : `, drawn with seed ${seed}`}`
}

/** `, 8 requested`, if a run used another number of windows than it was asked for: the method uses fewer, or the text has no more. */
export function requestedWindows(requested: number | undefined, { windows }: Pick<UsedData, 'windows'>): string {
  return requested === undefined || requested === windows ? '' : `, ${requested} requested`
}

/** What a run used of the windows that it was asked for, if they are fewer: `Calibrated on 1 of 8 windows. Measured on 5 of 8 windows of prose.` */
export function fewerWindows(
  { calibration, evaluation }: Pick<RunDetail, 'calibration' | 'evaluation'>,
  request: Pick<RunDetail['request'], 'calibration' | 'measures'>,
): string {
  const asked = request.calibration?.windows
  const calibrated =
    calibration && asked && calibration.windows < asked ? [`Calibrated on ${calibration.windows} of ${asked} windows.`] : []
  const measured = request.measures.flatMap((measure) => {
    if (!('data' in measure)) return []
    const { source, windows = 0 } = measure.data
    const used = evaluation.find((one) => one.source === source)
    return used && used.windows < windows ? [`Measured on ${used.windows} of ${windows} windows of ${sourceName(source)}.`] : []
  })
  return [...calibrated, ...measured].join(' ')
}

/** An option that counts windows, with what was used of them: `8 used of 32`. */
export function optionWindows(value: number, used: Pick<UsedData, 'windows'> | null): string {
  return used && used.windows < value ? `${used.windows} used of ${value}` : String(value)
}

/** The text by name, or each of several with its windows: `notes.txt (60) and Mixed text (19)`. */
export function describeSource({ source, parts }: Pick<UsedData, 'source' | 'parts'>): string {
  return parts?.map((part) => `${sourceName(part.source)} (${part.windows})`).join(' and ') ?? sourceName(source)
}

/** The start of the hash, long enough to tell sets of windows apart. */
export function shortHash({ hash }: UsedData): string {
  return hash.slice(0, 12)
}
