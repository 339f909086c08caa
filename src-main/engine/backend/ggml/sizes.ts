/** Sizes in ggml's form: always four, the fastest-varying first. A tensor of tfjs [a, b, c] is [c, b, a, 1]. */
export type Sizes = readonly [number, number, number, number]

export const elements = (sizes: readonly number[]): number => sizes.reduce((product, size) => product * size, 1)

/** Sizes of a shape. Dimensions before the last three are merged into one. */
export function sizesOf(shape: readonly number[]): Sizes {
  const [last = 1, second = 1, third = 1, ...rest] = shape.toReversed()
  return [last, second, third, elements(rest)]
}
