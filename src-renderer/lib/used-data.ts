import type { UsedData } from '#contract/data/used-data.ts'
import { formatPlural } from './format.ts'

/** The last part of a path or the name of a data set. */
export function sourceName(source: string): string {
  return source.split(/[\\/]/).filter(Boolean).at(-1) ?? source
}

/** `32 windows of 256 tokens, drawn with seed 1`. */
export function describeWindows({ windows, sequenceLength, seed }: UsedData): string {
  return `${formatPlural(windows, 'window')} of ${sequenceLength} tokens${seed === 0 ? '' : `, drawn with seed ${seed}`}`
}

/** Enough of a hash to tell two sets of windows apart. */
export function shortHash({ hash }: UsedData): string {
  return hash.slice(0, 12)
}
