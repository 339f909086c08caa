import { activeBackend } from '#engine/backend/active.ts'

/** AdamW (arXiv 1711.05101) without weight decay. */
export const adam = { first: 0.9, second: 0.95, epsilon: 1e-8 } as const

/** A trained tensor with its moments, in float32. */
export interface Moments {
  readonly values: Float32Array
  readonly first: Float32Array
  readonly second: Float32Array
}

/** How many entries are updated between two calls of `pause`. */
const entriesTogether = 2 ** 20

/** Returns the sum of squares, in float64. */
export function sumOfSquares(values: Float32Array): number {
  const arrays = activeBackend().fused?.arrays
  if (arrays) return arrays.sumOfSquares(values)
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2
  return sum
}

/**
 * Moves a tensor against its gradient, in place. `step` counts from 1. The gradient is first multiplied by `factor`, which clips it.
 * `pause` is called after each million entries and may throw. Entries are computed one by one in float64 and rounded to float32, so the
 * result does not depend on the number of threads.
 */
export async function stepAdam(
  { values, first, second }: Moments,
  gradient: Float32Array,
  { step, rate, factor }: { readonly step: number; readonly rate: number; readonly factor: number },
  pause: () => Promise<void>,
): Promise<void> {
  const [firstShare, secondShare] = [1 - adam.first, 1 - adam.second]
  const reach = rate / (1 - adam.first ** step)
  const level = 1 / (1 - adam.second ** step)
  const arrays = activeBackend().fused?.arrays
  for (let from = 0; from < values.length; from += entriesTogether) {
    const to = Math.min(values.length, from + entriesTogether)
    const numbers = [adam.first, adam.second, adam.epsilon, reach, level, factor] as const
    const part = (array: Float32Array) => array.subarray(from, to)
    arrays?.stepAdam(part(values), part(first), part(second), part(gradient), ...numbers)
    for (let i = arrays ? to : from; i < to; i++) {
      const g = (gradient[i] as number) * factor
      const m = adam.first * (first[i] as number) + firstShare * g
      const v = adam.second * (second[i] as number) + secondShare * g * g
      first[i] = m
      second[i] = v
      values[i] = (values[i] as number) - (reach * m) / (Math.sqrt(v * level) + adam.epsilon)
    }
    await pause()
  }
}
