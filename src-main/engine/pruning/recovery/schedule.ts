/** Warm-up as a share of the steps (at least two steps), and the last learning rate as a share of the peak. */
const [rising, end] = [0.05, 0.05]

/** The learning rate of step `index` of `steps`, counted from 0: a straight line up to `peak`, then half a cosine down. */
export function rateAt(index: number, steps: number, peak: number): number {
  const warm = Math.min(steps, Math.max(2, Math.round(steps * rising)))
  if (index < warm) return (peak * (index + 1)) / warm
  const progress = (index - warm + 1) / Math.max(1, steps - warm)
  return peak * (end + ((1 - end) * (1 + Math.cos(Math.PI * progress))) / 2)
}
