import { partText, type UsedData } from '#contract/data/used-data.ts'

/** Describes a text that a run used: `32 windows of 256 tokens of calibration.txt, drawn with seed 1 (4f0a…)`. */
export function usedText({ source, windows, sequenceLength, seed, hash, beginToken, split }: UsedData): string {
  return [
    `${windows} windows of ${sequenceLength} tokens of ${source}`,
    ...(split ? [partText(split)] : []),
    ...(beginToken ? ['each beginning with the begin token'] : []),
    `${seed === 0 ? 'in order' : `drawn with seed ${seed}`} (${hash.slice(0, 12)})`,
  ].join(', ')
}
