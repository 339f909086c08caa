/** The warm-up as a share of the steps. It has at least two. */
const rising = 0.05
/** The last learning rate as a share of the peak. */
const end = 0.05

/** Returns the learning rate of step `index` of `steps`, counted from 0. It rises linearly to `peak`, then falls along half a cosine. */
export function rateAt(index: number, steps: number, peak: number): number {
  const warm = Math.min(steps, Math.max(2, Math.round(steps * rising)))
  if (index < warm) return (peak * (index + 1)) / warm
  const progress = (index - warm + 1) / Math.max(1, steps - warm)
  return peak * (end + ((1 - end) * (1 + Math.cos(Math.PI * progress))) / 2)
}
