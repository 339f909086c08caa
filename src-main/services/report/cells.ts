import type { Estimate } from '#contract/comparison/statistics.ts'
import { formatNumber } from '../comparison/table-text.ts'

/** A share in percent; null stays null. */
export const percent = (share: number | null): string | null => (share === null ? null : `${(100 * share).toFixed(1)} %`)

/** A value with its standard error, if it has one. */
export const estimated = ({ value, error }: Estimate): string =>
  error === null ? formatNumber(value) : `${formatNumber(value)} ± ${formatNumber(error)}`
