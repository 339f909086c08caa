import { at } from '#contract/at.ts'
import type { PricedTensor, TypeChoice } from './price-list.ts'

/** The choices of each tensor on the lower convex hull of price over bytes, the smallest first. */
function hullOf({ choices }: PricedTensor): TypeChoice[] {
  const hull: TypeChoice[] = []
  const slope = (a: TypeChoice, b: TypeChoice) => (a.price - b.price) / (b.bytes - a.bytes)
  for (const choice of choices) {
    const last = hull.at(-1)
    if (last && (choice.price >= last.price || choice.bytes === last.bytes)) continue
    while (hull.length > 1 && slope(at(hull, hull.length - 2), at(hull, hull.length - 1)) <= slope(at(hull, hull.length - 1), choice))
      hull.pop()
    hull.push(choice)
  }
  return hull
}

/**
 * Chooses a type for each tensor so that all together take at most `bytes`, with the smallest sum of prices that steps along the hulls
 * reach (a Lagrangian relaxation of the knapsack). Steps go to where a byte saves most. What is left over is filled with the steps that
 * still fit. If not even the smallest types fit, returns these.
 */
export function chooseTypes(tensors: readonly PricedTensor[], bytes: number): Map<string, TypeChoice> {
  const hulls = tensors.map(hullOf)
  const places = hulls.map(() => 0)
  let left = bytes - hulls.reduce((sum, hull) => sum + at(hull, 0).bytes, 0)
  const steps = hulls
    .flatMap((hull, tensor) =>
      hull.slice(1).map((to, i) => {
        const from = at(hull, i)
        return { tensor, place: i + 1, bytes: to.bytes - from.bytes, gain: (from.price - to.price) / (to.bytes - from.bytes) }
      }),
    )
    .sort((a, b) => b.gain - a.gain)
  for (const { tensor, place, bytes: more } of steps) {
    if (places[tensor] !== place - 1 || more > left) continue
    places[tensor] = place
    left -= more
  }
  return new Map(tensors.map(({ name }, index) => [name, at(at(hulls, index), at(places, index))]))
}
