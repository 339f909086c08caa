/** A relative change below this is shown as none. */
export const leastChange = 0.0005

/** A change against a baseline, the same wherever one is shown: `+47 %`, `−3.3 %`, and from ten times on a factor, `×67`. */
export function changeText({ absolute, relative }: { absolute: number; relative: number | null }): string {
  if (absolute === 0) return '±0'
  if (relative === null) return absolute > 0 ? '+' : '−'
  if (relative >= 9) return `×${Math.round(relative + 1).toLocaleString('en-US')}`
  const percent = Math.abs(relative * 100)
  if (Math.abs(relative) < leastChange) return '±0.0 %'
  return `${absolute > 0 ? '+' : '−'}${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`
}
