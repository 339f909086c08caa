// Sample statistics shared by screens, reports and exports. Each function names its source.

export interface Estimate {
  value: number
  /** One standard error; null if the sample does not give one. */
  error: number | null
}

/** Returns the mean, or 0 if there are no values. */
export const meanOf = (values: ArrayLike<number>): number => sum(values) / Math.max(1, values.length)

/** Returns the mean with its standard error, from the population variance over n - 1, like llama.cpp's `mean_and_uncertainty`. */
export function meanAndError(values: ArrayLike<number>): Estimate {
  const count = values.length
  if (count === 0) return { value: 0, error: null }
  const value = sum(values) / count
  let squares = 0
  for (let i = 0; i < count; i++) squares += ((values[i] ?? 0) - value) ** 2
  return { value, error: count > 1 ? Math.sqrt(squares / count / (count - 1)) : null }
}

/** Returns mean and standard deviation over n - 1. The deviation is null for a single value. */
export function meanAndSpread(values: readonly number[]): { mean: number; spread: number | null } {
  const mean = meanOf(values)
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, spread: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : null }
}

/** Returns the covariance of the means of two samples of equal length, over n - 1. */
export function covarianceOfMeans(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [meanA, meanB] = [sum(a) / a.length, sum(b) / b.length]
  let products = 0
  for (let i = 0; i < a.length; i++) products += ((a[i] ?? 0) - meanA) * ((b[i] ?? 0) - meanB)
  return products / a.length / (a.length - 1)
}

/** Returns a quantile of sorted values, linear between neighbours (type 7 of Hyndman and Fan 1996, as in NumPy and llama.cpp). */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const place = Math.min(1, Math.max(0, share)) * (sorted.length - 1)
  const below = Math.floor(place)
  const low = sorted[below] ?? Number.NaN
  return low + (place - below) * ((sorted[Math.min(below + 1, sorted.length - 1)] ?? low) - low)
}

/**
 * Returns a quantile with its standard error: half the distance between the values one binomial standard deviation of ranks below and
 * above (David and Nagaraja, Order Statistics, 7.1). Needs no density estimate.
 */
export function quantileWithError(sorted: ArrayLike<number>, share: number): Estimate {
  const value = quantile(sorted, share)
  const spread = Math.sqrt((share * (1 - share)) / sorted.length)
  if (sorted.length < 2 || share + spread >= 1 || share - spread <= 0) return { value, error: null }
  return { value, error: (quantile(sorted, share + spread) - quantile(sorted, share - spread)) / 2 }
}

/** Returns a share of n with its standard error over n - 1. */
export function shareAndError(hits: number, of: number): Estimate {
  const value = of === 0 ? 0 : hits / of
  return { value, error: of > 1 ? Math.sqrt((value * (1 - value)) / (of - 1)) : null }
}

/**
 * McNemar's exact test (1947) on the questions that two models answer differently: `gained` became right, `lost` became wrong. Returns the
 * two-sided probability of a split at least this uneven under a fair coin.
 */
export function mcnemar(gained: number, lost: number): number {
  const n = gained + lost
  const fewer = Math.min(gained, lost)
  let logTerm = n * Math.log(0.5)
  let tail = 0
  for (let k = 0; k <= fewer; k++) {
    tail += Math.exp(logTerm)
    logTerm += Math.log(n - k) - Math.log(k + 1)
  }
  return Math.min(1, 2 * tail)
}

/** Returns a generator of uniform numbers in [0, 1), the same for the same seed (mulberry32). */
export function uniformNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Returns a generator of gamma variates of scale 1 for shapes above 0, the same for the same seed (Marsaglia and Tsang 2000). */
export function gammaNumbers(seed: number): (shape: number) => number {
  const uniform = uniformNumbers(seed)
  // Box and Muller. It takes the logarithm of 1 - u, because u may be 0.
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform())
  const draw = (shape: number): number => {
    if (shape < 1) return draw(shape + 1) * (1 - uniform()) ** (1 / shape)
    const d = shape - 1 / 3
    for (;;) {
      const x = normal()
      const v = (1 + x / Math.sqrt(9 * d)) ** 3
      if (v > 0 && Math.log(1 - uniform()) < (x * x) / 2 + d * (1 - v + Math.log(v))) return d * v
    }
  }
  return draw
}

export interface Interval {
  low: number
  high: number
}

/** Number of bootstrap resamplings. */
const resamplings = 2000

/** Returns the percentile bootstrap interval (95 %) of the mean of paired differences (Efron and Tibshirani 1993, 13.3). */
export function bootstrapMean(differences: ArrayLike<number>, { seed = 1, repeats = resamplings } = {}): Interval {
  const draw = uniformNumbers(seed)
  const size = differences.length
  const means = Float64Array.from({ length: repeats }, () => {
    let total = 0
    for (let i = 0; i < size; i++) total += differences[Math.floor(draw() * size)] ?? 0
    return total / size
  })
  return middle(means)
}

/** Returns the central 95 % of resampled values. Sorts them in place. */
export function middle(resampled: Float64Array): Interval {
  const sorted = resampled.sort()
  return { low: quantile(sorted, 0.025), high: quantile(sorted, 0.975) }
}

function sum(values: ArrayLike<number>): number {
  let total = 0
  for (let i = 0; i < values.length; i++) total += values[i] ?? 0
  return total
}
