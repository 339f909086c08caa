import type { QuickAnswer, QuickSizes } from '#contract/experiments/experiments.ts'
import { inMegabytes, mixedBudget } from '#contract/runs/amount-text.ts'
import { formatBytes, formatPlural } from '../../../lib/format.ts'
import { timeText } from '../preview-text.ts'

/** A first size to ask for: halfway between the smallest that can be made and the type that most people use, or today's file if smaller. */
export function startingSize({ files, least, today }: QuickSizes): number {
  const usual = files.find(({ types }) => types.includes('Q4_K_M'))?.bytes ?? today
  return inMegabytes((least + Math.max(least, Math.min(usual, today))) / 2, Math.ceil) * 1e6
}

/** Says what the unpruned model takes in the usual types: `Unpruned: 990 MB in F16, 398 MB in Q4_K_M`. */
export function sizesText({ files }: QuickSizes): string {
  const shown = files.map(({ types, bytes }) => `${formatBytes(bytes)} in ${types.join(' or ')}`)
  return shown.length > 0 ? `Unpruned: ${shown.join(', ')}` : ''
}

/** Types that make files of one size, with the reason; empty if each type makes another. */
export function equalTypesText({ files }: QuickSizes): string {
  const equal = files.flatMap(({ types }) => (types.length > 1 ? types.join(' and ') : []))
  return equal.length > 0 ? `${equal.join('; ')} are equal here: rows of this model are too short for finer types.` : ''
}

/** What the button starts: `6 runs, about 4 min, one pruned file in Q4_K_M against 2 unpruned files`. */
export function answerText({ grid, preview }: QuickAnswer): string {
  const pruned = preview.combinations.find(({ amount }) => 'bytes' in amount || 'tokensPerSecond' in amount)
  const types = new Set([...(grid.weights ?? []), ...(grid.rivals ?? [])].filter((type) => type !== 'computed'))
  const time = timeText(preview)
  const isMixed = grid.amounts.some((amount) => mixedBudget(amount))
  const file = isMixed ? 'one file in mixed types, pruned if that pays,' : `one pruned file in ${grid.weights?.join(' or ')}`
  const against = types.size > 0 ? `${file} against ${formatPlural(types.size, 'unpruned file')}` : ''
  return [formatPlural(preview.runs, 'run'), time, pruned ? against : ''].filter(Boolean).join(', ')
}
