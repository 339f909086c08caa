import { at, outside } from '#contract/at.ts'

/**
 * The random numbers of CPython's `random` module for a seed, bit for bit: the Mersenne Twister (MT19937, Matsumoto and Nishimura 1998) and
 * what CPython builds on it. The engine draws all its random numbers here. So a search or shuffle that draws in the reference's order makes
 * the reference's choices.
 */
const size = 624
const period = 397

export class PythonRandom {
  readonly #state = new Uint32Array(size)
  #index = size

  /** Same as `random.seed(seed)` for a whole number. The sign is ignored, as in CPython. */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed)) throw new RangeError(`A seed must be a whole number below 2^53, but is ${seed}.`)
    this.#seedByArray(wordsOf(Math.abs(seed)))
  }

  #seedByNumber(seed: number): void {
    this.#state[0] = seed
    for (let i = 1; i < size; i++) {
      const before = this.#at(i - 1)
      this.#state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i
    }
  }

  #seedByArray(key: readonly number[]): void {
    this.#seedByNumber(19650218)
    const state = this.#state
    let i = 1
    const advance = () => {
      i++
      if (i >= size) {
        state[0] = this.#at(size - 1)
        i = 1
      }
    }
    for (let step = 0; step < size; step++) {
      const j = step % key.length
      const before = this.#at(i - 1)
      state[i] = (this.#at(i) ^ Math.imul(before ^ (before >>> 30), 1664525)) + at(key, j) + j
      advance()
    }
    for (let step = 1; step < size; step++) {
      const before = this.#at(i - 1)
      state[i] = (this.#at(i) ^ Math.imul(before ^ (before >>> 30), 1566083941)) - i
      advance()
    }
    state[0] = 0x80000000
    this.#index = size
  }

  #at(index: number): number {
    return this.#state[index] ?? outside(this.#state, index)
  }

  #refill(): void {
    for (let i = 0; i < size; i++) {
      const joined = (this.#at(i) & 0x80000000) | (this.#at((i + 1) % size) & 0x7fffffff)
      this.#state[i] = this.#at((i + period) % size) ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0)
    }
    this.#index = 0
  }

  #word(): number {
    if (this.#index >= size) this.#refill()
    let y = this.#at(this.#index++)
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }

  /** Draws a number in [0, 1) with 53 random bits. */
  random(): number {
    const high = this.#word() >>> 5
    const low = this.#word() >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** Draws a whole number of `count` random bits, 1 to 53. */
  getRandomBits(count: number): number {
    if (count <= 32) return this.#word() >>> (32 - count)
    const low = this.#word()
    return (this.#word() >>> (64 - count)) * 2 ** 32 + low
  }

  /** Draws a whole number in [0, limit). */
  below(limit: number): number {
    if (!(limit >= 1)) throw new RangeError(`Cannot draw a number from [0, ${limit}).`)
    const bits = limit.toString(2).length
    let drawn = this.getRandomBits(bits)
    while (drawn >= limit) drawn = this.getRandomBits(bits)
    return drawn
  }

  /** Same as `randrange(start, stop, step)`: draws one of start, start + step, … below stop. */
  range(start: number, stop: number, step = 1): number {
    return start + step * this.below(Math.ceil((stop - start) / step))
  }

  /** Same as `randint(first, last)`: both ends are possible. */
  integer(first: number, last: number): number {
    return first + this.below(last - first + 1)
  }

  choice<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T
  }

  /** Returns a copy of the items in the order that CPython's `shuffle` gives them. */
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items]
    for (let last = result.length - 1; last > 0; last--) {
      const other = this.below(last + 1)
      const moved = result[last] as T
      result[last] = result[other] as T
      result[other] = moved
    }
    return result
  }

  /** Draws `count` different items and returns them in drawing order, as CPython's `sample` does. */
  sample<T>(items: readonly T[], count: number): T[] {
    if (count < 0 || count > items.length) throw new RangeError(`Cannot draw ${count} of ${items.length} items.`)
    // As in CPython: above this many items, a set of drawn indices is smaller than a copy of the items.
    const copyUpTo = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0)
    return items.length <= copyUpTo ? this.#sampleFromCopy(items, count) : this.#sampleByIndex(items, count)
  }

  #sampleFromCopy<T>(items: readonly T[], count: number): T[] {
    const pool = [...items]
    return Array.from({ length: count }, (_, i) => {
      const index = this.below(pool.length - i)
      const drawn = pool[index] as T
      pool[index] = pool[pool.length - i - 1] as T
      return drawn
    })
  }

  #sampleByIndex<T>(items: readonly T[], count: number): T[] {
    const drawn = new Set<number>()
    while (drawn.size < count) drawn.add(this.below(items.length))
    return [...drawn].map((index) => items[index] as T)
  }
}

/** The 32-bit words of a whole number, lowest first. */
function wordsOf(value: number): number[] {
  const words = [value % 2 ** 32]
  if (value >= 2 ** 32) words.push(Math.floor(value / 2 ** 32))
  return words
}
