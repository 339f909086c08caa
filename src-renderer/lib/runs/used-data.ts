import { sourceName } from '#contract/data/source-name.ts'
import type { UsedData } from '#contract/data/used-data.ts'
import { formatPlural } from '../format.ts'

/** `32 windows of 256 tokens, drawn with seed 1`. */
export function describeWindows({ windows, sequenceLength, seed }: UsedData): string {
  return `${formatPlural(windows, 'window')} of ${formatPlural(sequenceLength, 'token')}${seed === 0 ? '' : `, drawn with seed ${seed}`}`
}

/** The text by name, or each of several with its windows: `notes.txt (60) and Mixed text (19)`. */
export function describeSource({ source, parts }: Pick<UsedData, 'source' | 'parts'>): string {
  return parts?.map((part) => `${sourceName(part.source)} (${part.windows})`).join(' and ') ?? sourceName(source)
}

/** The start of the hash, long enough to tell sets of windows apart. */
export function shortHash({ hash }: UsedData): string {
  return hash.slice(0, 12)
}
