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

/**
 * Returns the weighted mean with its standard error over n - 1 (Cochran, Sampling Techniques, 6.3). With equal weights, this is the usual
 * standard error of a mean. The error is NaN for a single value.
 */
export function weightedMeanAndError(values: readonly number[], weights: readonly number[]): { value: number; error: number } {
  const count = values.length
  const total = sum(weights)
  const value = values.reduce((all, one, i) => all + one * (weights[i] ?? 0), 0) / total
  const squares = values.reduce((all, one, i) => all + ((weights[i] ?? 0) * (one - value)) ** 2, 0)
  return { value, error: Math.sqrt((count / (count - 1)) * squares) / total }
}

/**
 * Returns the 95 % interval of the difference between two shares of the same n items, of which `gained` count for the first only and `lost`
 * for the second only (Bonett and Price 2012: Wald's interval with an item added to each). It holds for a dozen items too.
 */
export function pairedShares(gained: number, lost: number, n: number): Interval & { probability: number } {
  const [more, less] = [(gained + 1) / (n + 2), (lost + 1) / (n + 2)]
  const error = Math.sqrt((more + less - (more - less) ** 2) / (n + 2))
  const half = 1.959964 * error
  const probability = 2 * studentTail(Math.abs(more - less) / error, Number.POSITIVE_INFINITY)
  return { low: Math.max(-1, more - less - half), high: Math.min(1, more - less + half), probability }
}

/** Returns the probability that Student's statistic exceeds `t`, which is at least 0. `freedom` may be a fraction, and infinite. */
export function studentTail(t: number, freedom: number): number {
  const degrees = Math.min(freedom, 1e7)
  return incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2
}

/** Returns the quantile of Student's distribution for a share of at least one half. `freedom` may be a fraction, and infinite. */
export function studentQuantile(share: number, freedom: number): number {
  let [low, high] = [0, 1]
  while (studentTail(high, freedom) > 1 - share) high *= 2
  for (let i = 0; i < 80; i++) {
    const middleOf = (low + high) / 2
    if (studentTail(middleOf, freedom) > 1 - share) low = middleOf
    else high = middleOf
  }
  return (low + high) / 2
}

/** The regularised incomplete beta function, by Lentz's continued fraction (Press et al., Numerical Recipes, 6.4). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0
  if (x >= 1) return 1
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a)
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a
  let [c, d] = [1, 1 / (1 - ((a + b) * x) / (a + 1))]
  let fraction = d
  for (let m = 1; m <= 500; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))
    for (const term of [even, odd]) {
      d = 1 / (1 + term * d)
      c = 1 + term / c
      fraction *= c * d
    }
    if (Math.abs(c * d - 1) < 1e-15) break
  }
  return front * fraction
}

/** The logarithm of the gamma function by Stirling's series, shifted to arguments where it is exact to 14 digits. */
function logGamma(x: number): number {
  if (x < 12) return logGamma(x + 1) - Math.log(x)
  const inverse = 1 / (x * x)
  const series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680)))) / x
  return (x - 0.5) * Math.log(x) - x + Math.log(2 * Math.PI) / 2 + series
}

function sum(values: ArrayLike<number>): number {
  let total = 0
  for (let i = 0; i < values.length; i++) total += values[i] ?? 0
  return total
}
