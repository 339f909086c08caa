import { isTimed, loadMeasure } from '#contract/runs/speed.ts'

/** The order in which people ask for measures: how good, then how fast and how sure that is, then how large. */
function measureRank({ name, unit }: { name: string; unit: string }): number {
  if (name === 'perplexity') return 0
  if (name === 'speed-up') return 2
  if (isTimed({ name })) return 3
  if (name === loadMeasure.name) return 4
  if (unit === 'share') return 1
  return name === 'parameters' || unit === 'bytes' ? 6 : 5
}

/** The measures in that order; those of one kind stay as they came. */
export function orderMeasures<Measure extends { name: string; unit: string }>(measures: readonly Measure[]): Measure[] {
  return [...measures].sort((a, b) => measureRank(a) - measureRank(b))
}
