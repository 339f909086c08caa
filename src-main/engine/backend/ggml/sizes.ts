/** Sizes as ggml gives them: always four, the fastest-varying first. A tensor [a, b, c] of tfjs has sizes [c, b, a, 1]. */
export type Sizes = readonly [number, number, number, number]

export const elements = (sizes: readonly number[]): number => sizes.reduce((product, size) => product * size, 1)

/** Converts a shape to sizes. Dimensions before the last three are merged into one. */
export function sizesOf(shape: readonly number[]): Sizes {
  const [last = 1, second = 1, third = 1, ...rest] = shape.toReversed()
  return [last, second, third, elements(rest)]
}
