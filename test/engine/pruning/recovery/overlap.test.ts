import { expect, test } from 'vitest'
import { withoutOverlap } from '#engine/pruning/recovery/overlap.ts'
import { rateAt } from '#engine/pruning/recovery/schedule.ts'

const numbers = (first: number, length: number) => Int32Array.from({ length }, (_, i) => first + i)

test('a window that holds a stretch of another text is left out, wherever the stretch begins', () => {
  const clean = numbers(5000, 128)
  const shifted = Int32Array.from([...numbers(9000, 13), ...numbers(64, 40), ...numbers(9100, 75)])
  expect(withoutOverlap([clean, shifted], [numbers(0, 256)])).toEqual([clean])
  expect(withoutOverlap([clean, shifted], [])).toEqual([clean, shifted])
})

test('the rate rises in a line, then falls along half a cosine to a twentieth of its peak', () => {
  const rates = Array.from({ length: 100 }, (_, step) => rateAt(step, 100, 1))
  expect(rates.slice(0, 5)).toEqual([0.2, 0.4, 0.6, 0.8, 1])
  expect(rates.at(-1)).toBeCloseTo(0.05, 10)
  expect(rates.slice(5).every((rate, at) => rate < (rates[at + 4] ?? 0))).toBe(true)
  expect(rateAt(0, 1, 1)).toBe(1)
})
