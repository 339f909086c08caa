import type { CombinationPreview } from '#contract/experiments/experiments.ts'
import type { Amount } from '#contract/runs/run-request.ts'

/** Percentages as typed, to shares: `25 37,5 %` to 0.25 and 0.375; null where one is none. A comma within a number is its decimal mark. */
export function parsePercents(text: string): number[] | null {
  const parts = text
    .replace(/\s*%/g, ' ')
    .split(/[;\s]+|,(?=\s|$)/)
    .filter(Boolean)
  const shares = parts.map((part) => Number(part.replace(',', '.')) / 100)
  return shares.length > 0 && shares.every((share) => share >= 0 && share <= 1) ? shares.map((share) => Number(share.toFixed(6))) : null
}

/** With all the digits that tell two sparsities apart: 0.33333 is `33.333 %`. */
export function formatAmount(amount: Amount): string {
  return 'sparsity' in amount ? `${Number((amount.sparsity * 100).toFixed(4))} %` : `${amount.blocks} blocks`
}

/** Amounts in rising order, each once. */
export function addAmounts(amounts: readonly Amount[], shares: readonly number[]): Amount[] {
  const known = new Map([...shares.map((sparsity) => ({ sparsity })), ...amounts].map((amount) => [formatAmount(amount), amount]))
  return [...known.values()].sort((a, b) => ('sparsity' in a ? a.sparsity : 2) - ('sparsity' in b ? b.sparsity : 2))
}

/** The most that a combination can remove, rounded down to what can be typed. */
export function limitText({ feasibleRange, problem }: Pick<CombinationPreview, 'feasibleRange' | 'problem'>): string {
  return feasibleRange ? `choose ${Math.floor(feasibleRange.maximum * 1000) / 10} % or less` : (problem ?? 'out of reach')
}

/** Seeds as typed: `0, 1, 4-6`. */
export function parseSeeds(text: string): number[] | null {
  const seeds = new Set<number>()
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const match = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part)
    if (!match) return null
    const from = Number(match[1])
    const to = match[2] === undefined ? from : Number(match[2])
    if (to < from || to - from > 99) return null
    for (let seed = from; seed <= to; seed += 1) seeds.add(seed)
  }
  return seeds.size > 0 && seeds.size <= 100 ? [...seeds].sort((a, b) => a - b) : null
}

export function formatSeeds(seeds: readonly number[]): string {
  return seeds.join(', ')
}
