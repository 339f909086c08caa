/** Random draws that depend only on the seed and case, on every machine (xorshift32 with a mixed start). */
export class Random {
  #state: number

  constructor(seed: number, number: number) {
    this.#state = (Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b)) >>> 0 || 1
    for (let i = 0; i < 4; i++) this.#next()
  }

  #next(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x >>> 0
    return this.#state
  }

  /** A whole number from 0 to `end - 1`. */
  below(end: number): number {
    return this.#next() % Math.max(1, end)
  }

  chance(probability: number): boolean {
    return this.#next() / 2 ** 32 < probability
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item
  }
}
