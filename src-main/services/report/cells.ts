import { cellText } from '#contract/comparison/cell-text.ts'
import type { Estimate } from '#contract/comparison/statistics.ts'

/** Writes a share in percent; null stays null. */
export const percent = (share: number | null): string | null => (share === null ? null : `${(100 * share).toFixed(1)} %`)

/** Writes a value with its standard error, if it has one. */
export const estimated = ({ value, error }: Estimate): string => cellText({ value, spread: error })
