/** A copy of the items in an order drawn from the seed; the same seed gives the same order on every machine. */
export function shuffle<Item>(items: readonly Item[], seed: number): Item[] {
  const result = [...items]
  const random = splitMix(seed)
  for (let last = result.length - 1; last > 0; last--) {
    const other = Number(random() % BigInt(last + 1))
    const moved = result[last] as Item
    result[last] = result[other] as Item
    result[other] = moved
  }
  return result
}

/** SplitMix64 (Steele, Lea, Flood 2014): 64-bit numbers of a seed. */
function splitMix(seed: number): () => bigint {
  let state = BigInt.asUintN(64, BigInt(Math.trunc(seed)))
  return () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n)
    const mixed = BigInt.asUintN(64, (state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n)
    const again = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn)
    return again ^ (again >> 31n)
  }
}
