import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PythonRandom } from '#engine/random/python-random.ts'

/** What CPython's random module draws, in this order, after `random.seed(seed)`. */
interface Drawn {
  readonly seed: number
  readonly random: number[]
  readonly bits: [count: number, value: number][]
  readonly ranges: [start: number, stop: number, step: number, value: number][]
  readonly integers: [first: number, last: number, value: number][]
  readonly choices: [count: number, value: number][]
  readonly samples: [items: number, count: number, values: number[]][]
  readonly later: number
  /** Shuffles of the whole numbers below `items`, each after a fresh `random.seed(seed)`; only the first twelve of long ones. */
  readonly shuffles: [items: number, values: number[]][]
}

const recorded = JSON.parse(await readFile(join(import.meta.dirname, '../../fixtures/python-random.json'), 'utf8')) as Drawn[]
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)

describe.each(recorded)('seed $seed', (drawn) => {
  test('draws what CPython draws, bit for bit', () => {
    const random = new PythonRandom(drawn.seed)
    expect(drawn.random.map(() => random.random())).toEqual(drawn.random)
    for (const [count, value] of drawn.bits) expect(random.getRandomBits(count)).toBe(value)
    for (const [start, stop, step, value] of drawn.ranges) expect(random.range(start, stop, step)).toBe(value)
    for (const [first, last, value] of drawn.integers) expect(random.integer(first, last)).toBe(value)
    for (const [count, value] of drawn.choices) expect(random.choice(upTo(count))).toBe(value)
    for (const [items, count, values] of drawn.samples) expect(random.sample(upTo(items), count)).toEqual(values)
    for (let i = 0; i < 1300; i++) random.random()
    expect(random.random()).toBe(drawn.later)
  })

  test('shuffles as CPython does', () => {
    for (const [items, values] of drawn.shuffles) {
      const order = new PythonRandom(drawn.seed).shuffle(upTo(items))
      expect(order.slice(0, values.length)).toEqual(values)
      expect(order.toSorted((a, b) => a - b)).toEqual(upTo(items))
    }
  })
})

test('refuses what has no answer', () => {
  const random = new PythonRandom(0)
  expect(() => random.below(0)).toThrow('[0, 0)')
  expect(() => random.sample([1, 2], 3)).toThrow('3 of 2')
  expect(() => new PythonRandom(0.5)).toThrow('whole number')
})
