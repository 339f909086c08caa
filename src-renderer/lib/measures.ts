/** The order in which people ask for measures: how good, then how fast, then how large. */
export function measureRank({ name, unit }: { name: string; unit: string }): number {
  if (name === 'perplexity') return 0
  if (unit === 'share') return 1
  return name === 'parameters' || unit === 'bytes' ? 3 : 2
}

/** The measures in that order; those of one kind stay as they came. */
export function orderMeasures<Measure extends { name: string; unit: string }>(measures: readonly Measure[]): Measure[] {
  return [...measures].sort((a, b) => measureRank(a) - measureRank(b))
}
