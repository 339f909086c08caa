import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import { chooseTypes, type Removable, worthRemoving } from '#engine/export/mixed-types/choose-types.ts'
import type { PricedTensor } from '#engine/export/mixed-types/price-list.ts'
import { PythonRandom } from '#engine/random/python-random.ts'

/** Tensors with random sizes and prices, some of whose types no choice should take. */
function randomTensors(seed: number): PricedTensor[] {
  const random = new PythonRandom(seed)
  return Array.from({ length: 6 }, (_, tensor) => {
    const choices = Array.from({ length: 4 }, (_, i) => ({
      type: `T${i}`,
      bytes: 10 + Math.floor(100 * random.random()),
      price: random.random() * 10 ** -tensor,
    }))
    return { name: `tensor ${tensor}`, shape: [1, 1], choices: choices.sort((a, b) => a.bytes - b.bytes || a.price - b.price) }
  })
}

const totals = (chosen: Iterable<{ bytes: number; price: number }>) =>
  [...chosen].reduce((all, { bytes, price }) => ({ bytes: all.bytes + bytes, price: all.price + price }), { bytes: 0, price: 0 })

/** The least sum of prices within the bytes, by trying all choices. */
function best(tensors: readonly PricedTensor[], bytes: number): number {
  const [first, ...others] = tensors
  if (!first) return bytes < 0 ? Number.POSITIVE_INFINITY : 0
  return Math.min(...first.choices.map((choice) => choice.price + best(others, bytes - choice.bytes)))
}

test('the types keep the budget, and no larger budget costs more', () => {
  for (let seed = 0; seed < 50; seed++) {
    const tensors = randomTensors(seed)
    const least = totals(tensors.map(({ choices }) => at(choices, 0))).bytes
    let before = Number.POSITIVE_INFINITY
    for (let bytes = least; bytes < 3 * least; bytes += 7) {
      const found = totals(chooseTypes(tensors, bytes).values())
      expect(found.bytes).toBeLessThanOrEqual(bytes)
      expect(found.price).toBeLessThanOrEqual(before * 1.5)
      before = Math.min(before, found.price)
    }
  }
})

test('with the bytes of one of its own choices, no choice is cheaper', () => {
  for (let seed = 0; seed < 20; seed++) {
    const tensors = randomTensors(seed)
    for (const more of [30, 90, 150, 210]) {
      const least = totals(tensors.map(({ choices }) => at(choices, 0))).bytes
      const found = totals(chooseTypes(tensors, least + more).values())
      // Only what is filled at the end may leave the hull of all choices.
      expect(found.price).toBeLessThan(2.5 * best(tensors, least + more) + 1e-9)
    }
  }
})

test('a step of the largest tensor that is larger than what is left is taken where that is better than the last steps of others', () => {
  const embedding = {
    name: 'embedding',
    shape: [1, 1],
    choices: [10, 60].map((bytes) => ({ type: `${bytes}`, bytes, price: bytes === 60 ? 0 : 9 })),
  }
  const blocks = Array.from({ length: 4 }, (_, i) => ({
    name: `block ${i}`,
    shape: [1, 1],
    choices: [1, 10].map((bytes) => ({ type: `${bytes}`, bytes, price: bytes === 1 ? 2 : 0 })),
  }))
  // Block steps save 2 / 9 for a byte, that of the embedding 9 / 50: after all of those, 55 - 46 bytes are left.
  const chosen = chooseTypes([embedding, ...blocks], 64)
  expect([chosen.get('embedding')?.type, totals(chosen.values())]).toEqual(['60', { bytes: 64, price: 8 }])
  expect(totals(chooseTypes([embedding, ...blocks], 63).values())).toEqual({ bytes: 50, price: 9 })
})

test('a budget below the smallest types returns these', () => {
  const tensors = randomTensors(1)
  const chosen = chooseTypes(tensors, 0)
  for (const { name, choices } of tensors) expect(chosen.get(name)?.bytes).toBe(at(choices, 0).bytes)
})

test('a type that is larger and worse than another is never taken', () => {
  const choices = [
    { type: 'small', bytes: 10, price: 3 },
    { type: 'worse', bytes: 20, price: 4 },
    { type: 'equal', bytes: 30, price: 3 },
    { type: 'good', bytes: 40, price: 1 },
  ]
  const [tensor] = [{ name: 'one', shape: [1, 1], choices }]
  const taken = [10, 20, 30, 39, 40, 100].map((bytes) => chooseTypes([tensor as PricedTensor], bytes).get('one')?.type)
  expect(taken).toEqual(['small', 'small', 'small', 'small', 'good', 'good'])
})

/** The least price of types and removals that leave at most these bytes, by trying all. Returns the parameters that it removes. */
function bestRemoval(tensors: readonly PricedTensor[], parts: readonly Removable[], bytes: number): number {
  let found = { price: Number.POSITIVE_INFINITY, parameters: 0 }
  for (let removed = 0; removed < 2 ** parts.length; removed++) {
    const gone = parts.filter((_, part) => removed & (1 << part))
    const shareOf = (name: string) => 1 - gone.reduce((sum, part) => sum + (part.tensors.includes(name) ? part.share : 0), 0)
    const left = tensors.map(({ choices, ...tensor }) => ({
      ...tensor,
      choices: choices.map((choice) => ({ ...choice, bytes: choice.bytes * shareOf(tensor.name) })),
    }))
    const price = best(left, bytes) + gone.reduce((sum, { prices }) => sum + at(prices, 0), 0)
    if (price < found.price) found = { price, parameters: gone.reduce((sum, part) => sum + part.parameters, 0) }
  }
  return found.parameters
}

test('parts go where they cost less than the bits that their bytes buy', () => {
  const bits = (name: string, scale: number): PricedTensor => ({
    name,
    shape: [1, 1],
    choices: [2, 3, 4, 5, 6, 7, 8].map((bytes) => ({ type: `${bytes} bits`, bytes: 100 * bytes, price: scale * 4 ** -bytes })),
  })
  const tensors = [bits('up', 1), bits('down', 2)]
  const neuron = (price: number): Removable => ({ tensors: ['up', 'down'], share: 0.1, parameters: 1, prices: Float64Array.of(price) })
  const parts = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1].map(neuron)
  for (const bytes of [700, 850, 1000, 1200]) {
    const removed = worthRemoving(tensors, parts, bytes)
    // Steps of whole bits leave gaps, in which one part more or fewer may go.
    expect(Math.abs(removed - bestRemoval(tensors, parts, bytes)), `${bytes}`).toBeLessThanOrEqual(1)
  }
  const many = (bytes: number) => worthRemoving(tensors, parts, bytes)
  // Parts of one group have their prices in one list.
  const together = { ...neuron(0), prices: Float64Array.from(parts, ({ prices }) => at(prices, 0)) }
  for (const bytes of [700, 1000, 5000]) expect(worthRemoving(tensors, [together], bytes)).toBe(many(bytes))
  expect([many(5000), many(1200) <= many(850), many(850) > 0]).toEqual([0, true, true])
})
