/** A relative change below this is shown as none. */
export const leastChange = 0.0005

/** Returns the difference from the baseline, absolute and relative (null if the baseline is 0), and whether it is an improvement. */
export function deltaOf(
  value: number,
  baseline: number,
  lowerIsBetter: boolean,
): { absolute: number; relative: number | null; better: boolean | null } {
  const absolute = value - baseline
  const relative = baseline === 0 ? null : absolute / Math.abs(baseline)
  const isSame = absolute === 0 || (relative !== null && Math.abs(relative) < leastChange)
  return { absolute, relative, better: isSame ? null : absolute < 0 === lowerIsBetter }
}

/** Writes a change against a baseline: `+47 %` or `−3.3 %`, or as a factor if the value is at least ten times as large, `×67`. */
export function changeText({ absolute, relative }: { absolute: number; relative: number | null }): string {
  if (absolute === 0) return '±0'
  if (relative === null) return absolute > 0 ? '+' : '−'
  if (relative >= 9) return `×${Math.round(relative + 1).toLocaleString('en')}`
  const percent = Math.abs(relative * 100)
  if (Math.abs(relative) < leastChange) return '±0.0 %'
  return `${absolute > 0 ? '+' : '−'}${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}
