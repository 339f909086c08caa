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

/** Tensors whose steps may be larger than what is left, such as embedding and head: all their types are tried. */
const tried = 2

/**
 * Chooses a type for each tensor so that all together take at most `bytes`, with the smallest sum of prices that steps along the hulls
 * reach (a Lagrangian relaxation of the knapsack). Steps go to where a byte saves most. What is left over is filled with the steps that
 * still fit. That is done for each choice of types of the largest tensors, and the best is kept. If not even the smallest types fit, returns
 * these.
 */
export function chooseTypes(tensors: readonly PricedTensor[], bytes: number): Map<string, TypeChoice> {
  const hulls = tensors.map(hullOf)
  const steps = hulls
    .flatMap((hull, tensor) =>
      hull.slice(1).map((to, i) => {
        const from = at(hull, i)
        return { tensor, place: i + 1, bytes: to.bytes - from.bytes, gain: (from.price - to.price) / (to.bytes - from.bytes) }
      }),
    )
    .sort((a, b) => b.gain - a.gain)
  const fill = (pinned: ReadonlyMap<number, number>) => {
    const places = hulls.map((_, tensor) => pinned.get(tensor) ?? 0)
    const chosen = () => hulls.map((hull, tensor) => at(hull, at(places, tensor)))
    let left = bytes - chosen().reduce((sum, choice) => sum + choice.bytes, 0)
    for (const { tensor, place, bytes: more } of steps) {
      if (pinned.has(tensor) || places[tensor] !== place - 1 || more > left) continue
      places[tensor] = place
      left -= more
    }
    return { choices: chosen(), left, price: chosen().reduce((sum, { price }) => sum + price, 0) }
  }
  const sizes = hulls.map((hull) => at(hull, hull.length - 1).bytes)
  const largest = [...hulls.keys()].sort((a, b) => at(sizes, b) - at(sizes, a)).slice(0, tried)
  const pins = largest.reduce<Map<number, number>[]>(
    (before, tensor) => before.flatMap((pinned) => [...at(hulls, tensor).keys()].map((place) => new Map([...pinned, [tensor, place]]))),
    [new Map()],
  )
  const best = [new Map<number, number>(), ...pins].map(fill).reduce((best, one) => (one.left >= 0 && one.price < best.price ? one : best))
  return new Map(tensors.map(({ name }, tensor) => [name, at(best.choices, tensor)]))
}

/** Parts that a plan may remove one by one, such as the neurons of an MLP. Each has the same share of the rows or columns of these tensors. */
export interface Removable {
  readonly tensors: readonly string[]
  readonly share: number
  /** The parameters of one part. */
  readonly parameters: number
  /** The divergence that removing each part is estimated to cost, the lowest first. */
  readonly prices: Float64Array
}

const halvings = 60

/**
 * Returns the parameters that are worth removing from a model whose tensors may take at most `bytes`: at the price of a byte at which types
 * and removals together just fit, a part goes if that costs less than the bytes that it takes in its best types.
 */
export function worthRemoving(tensors: readonly PricedTensor[], removable: readonly Removable[], bytes: number): number {
  const at = (perByte: number) => {
    const best = new Map(
      tensors.map(({ name, choices }) => [
        name,
        choices.reduce((a, b) => (b.price + perByte * b.bytes < a.price + perByte * a.bytes ? b : a)),
      ]),
    )
    let left = [...best.values()].reduce((sum, choice) => sum + choice.bytes, 0)
    let parameters = 0
    for (const { tensors: own, share, parameters: each, prices } of removable) {
      const partBytes = share * own.reduce((sum, name) => sum + (best.get(name)?.bytes ?? 0), 0)
      const removed = countBelow(prices, perByte * partBytes)
      left -= removed * partBytes
      parameters += removed * each
    }
    return { fits: left <= bytes, parameters }
  }
  let [low, high] = [Math.log(1e-15), Math.log(1)]
  for (let halving = 0; halving < halvings; halving++) {
    const middle = (low + high) / 2
    if (at(Math.exp(middle)).fits) high = middle
    else low = middle
  }
  return at(Math.exp(high)).parameters
}

/** How many of the prices, the lowest first, are below a limit. */
function countBelow(prices: Float64Array, limit: number): number {
  const first = prices.findIndex((price) => !(price < limit))
  return first < 0 ? prices.length : first
}
