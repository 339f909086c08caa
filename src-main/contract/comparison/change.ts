/** A relative change below this is shown as none. */
export const leastChange = 0.0005

/** Writes a change against a baseline: `+47 %` or `−3.3 %`, or as a factor if the value is at least ten times as large, `×67`. */
export function changeText({ absolute, relative }: { absolute: number; relative: number | null }): string {
  if (absolute === 0) return '±0'
  if (relative === null) return absolute > 0 ? '+' : '−'
  if (relative >= 9) return `×${Math.round(relative + 1).toLocaleString('en-US')}`
  const percent = Math.abs(relative * 100)
  if (Math.abs(relative) < leastChange) return '±0.0 %'
  return `${absolute > 0 ? '+' : '−'}${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}
