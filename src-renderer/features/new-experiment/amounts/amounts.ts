import { isNear } from '#contract/comparison/best-results.ts'
import type { CombinationPreview } from '#contract/experiments/experiments.ts'
import { amountText, fileSizeText } from '#contract/runs/amount-text.ts'
import type { Amount } from '#contract/runs/run-request.ts'
import { denseMethod } from '#contract/titles.ts'
import { rangeText } from '../preview-text.ts'

/** Parses percentages into shares: `25 37,5 %` gives 0.25 and 0.375. Null if one is invalid. A comma within a number is a decimal mark. */
export function parsePercents(text: string): number[] | null {
  const parts = text
    .replace(/\s*%/g, ' ')
    .split(/[;\s]+|,(?=\s|$)/)
    .filter(Boolean)
  const shares = parts.map((part) => Number(part.replace(',', '.')) / 100)
  return shares.length > 0 && shares.every((share) => share >= 0 && share <= 1) ? shares.map((share) => Number(share.toFixed(6))) : null
}

/** Parses sparsities such as `25 37.5 %`, or shares of experts such as `25 % of experts`. Null if one is invalid. */
export function parseShares(text: string): Amount[] | null {
  const [, experts] = /^(.*?)\s*(?:of\s+)?experts$/i.exec(text.trim()) ?? []
  if (experts === undefined) return parsePercents(text)?.map((sparsity) => ({ sparsity })) ?? null
  const shares = parsePercents(experts)
  return shares?.every((share) => share > 0) ? shares.map((share) => ({ experts: share })) : null
}

/** Joins two lists of amounts, each amount once: sparsities in rising order, shares of experts, blocks, file sizes in rising order, and speeds. */
export function addAmounts(amounts: readonly Amount[], added: readonly Amount[]): Amount[] {
  const known = new Map([...added, ...amounts].map((amount) => [amountText(amount), amount]))
  const place = (amount: Amount): number => {
    if ('sparsity' in amount) return amount.sparsity
    if ('experts' in amount) return 1 + amount.experts
    if ('blocks' in amount) return 3
    return 'bytes' in amount ? 3 + amount.bytes : Number.POSITIVE_INFINITY
  }
  return [...known.values()].sort((a, b) => place(a) - place(b))
}

type WithSizes = Pick<CombinationPreview, 'fileRange'>

/** The file sizes that every combination can reach; null if unknown. */
function commonSizes(combinations: readonly WithSizes[]): { least: number; most: number } | null {
  const ranges = combinations.flatMap(({ fileRange }) => fileRange ?? [])
  const [least, most] = [Math.max(...ranges.map((range) => range.least)), Math.min(...ranges.map((range) => range.most))]
  return ranges.length === 0 || least >= most ? null : { least, most }
}

/** An example of a possible file size: the middle of those that every combination can reach. `6 GB` if they are unknown. */
export function exampleSize(combinations: readonly WithSizes[]): string {
  const sizes = commonSizes(combinations)
  return sizes ? fileSizeText(Number(((sizes.least + sizes.most) / 2).toPrecision(2))) : '6 GB'
}

/** The file sizes that every combination can reach: `2.9 MB to 5.6 MB`, or `about 5.62 MB`; null if unknown. */
export function fileSizesText(combinations: readonly WithSizes[]): string | null {
  const sizes = commonSizes(combinations)
  if (!sizes) return null
  const { least, most } = sizes
  // Rounds to three digits of the larger end, so that both ends have the same number of decimals.
  const step = 10 ** (Math.floor(Math.log10(most)) - 2)
  const [low, high] = [Math.ceil(least / step) * step, Math.floor(most / step) * step]
  return low < high ? `${fileSizeText(low)} to ${fileSizeText(high)}` : `about ${fileSizeText(least)}`
}

/** The size of the GGUF file that an amount makes: `310 MB in Q4_K_M`, of all methods in the first type. Empty if unknown. */
export function sizeText(amount: Amount, combinations: readonly Pick<CombinationPreview, 'amount' | 'formats' | 'method'>[]): string {
  if ('bytes' in amount) return ''
  const text = amountText(amount)
  const own = combinations.filter((one) => one.method !== denseMethod && amountText(one.amount) === text)
  const files = own.flatMap(({ formats }) =>
    formats.filter(({ format, type, bytes }) => format === 'gguf' && type !== null && bytes !== null),
  )
  const type = files.find((file) => file.type === 'Q4_K_M')?.type ?? files[0]?.type
  const same = files.flatMap((file) =>
    file.type === type && file.bytes ? [{ least: file.least?.bytes ?? file.bytes, most: file.bytes }] : [],
  )
  if (same.length === 0) return ''
  return `${rangeText(Math.min(...same.map(({ least }) => least)), Math.max(...same.map(({ most }) => most)))} in ${type}`
}

type Reaching = Pick<CombinationPreview, 'amount' | 'feasible' | 'reached' | 'method'>

/** Whether a combination is possible and comes as close to its sparsity as results that compete. What is not known yet counts as close. */
function isReached({ amount, feasible, reached, method }: Reaching): boolean {
  if (method === denseMethod || !('sparsity' in amount)) return true
  return feasible && (reached === null || isNear(reached, amount.sparsity))
}

/** The requested sparsities if a combination misses one of them, so that its result could not compete; else none. */
export function missedSparsities(combinations: readonly Reaching[]): number[] {
  if (combinations.every(isReached)) return []
  return [...new Set(combinations.flatMap(({ amount, method }) => (method !== denseMethod && 'sparsity' in amount ? amount.sparsity : [])))]
}

/** Sparsities of whole blocks beside the requested ones, rounded down, because a share above a whole number of blocks removes one more. */
export function blockSparsities(asked: readonly number[], blocks: number): number[] {
  const near = asked.flatMap((sparsity) => [Math.floor(sparsity * blocks), Math.ceil(sparsity * blocks)])
  const counts = new Set(near.filter((count) => count > 0 && count < blocks))
  return [...counts].map((count) => Math.floor((1e4 * count) / blocks + 1e-9) / 1e4)
}

/** For each requested sparsity the nearest that all combinations reach, each once. */
export function sharedSparsities(asked: readonly number[], combinations: readonly Reaching[]): number[] {
  const groups = Map.groupBy(
    combinations.filter(({ amount, method }) => method !== denseMethod && 'sparsity' in amount),
    ({ amount }) => ('sparsity' in amount ? amount.sparsity : 0),
  )
  const shared = [...groups].flatMap(([sparsity, own]) => (own.every(isReached) ? [sparsity] : []))
  const nearest = asked.flatMap((wanted) => [...shared].sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted))[0] ?? [])
  return [...new Set(nearest)].sort((a, b) => a - b)
}

/** Says what to choose instead: the largest possible sparsity, rounded down to 0.1 %, or the possible file sizes. */
export function limitText({
  feasibleRange,
  fileRange,
  amount,
  problem,
}: Pick<CombinationPreview, 'feasibleRange' | 'fileRange' | 'amount' | 'problem'>): string {
  if ('bytes' in amount && fileRange) return `choose ${fileSizesText([{ fileRange }]) ?? 'another format'}`
  return feasibleRange ? `choose ${Math.floor(feasibleRange.maximum * 1000) / 10} % or less` : (problem ?? 'out of reach')
}

/** Parses seeds such as `0, 1, 4-6`; null if one is invalid or there are more than 100. */
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
