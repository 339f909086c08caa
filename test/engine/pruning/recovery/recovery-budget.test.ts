import { expect, test } from 'vitest'
import { type Costs, lengthWithin, usualRate } from '#engine/pruning/recovery/recovery-budget.ts'

/** Windows of a step, and windows that are held out. */
const asked = { windowsPerStep: 4, heldOut: 32 }
const costs: Costs = { open: 5, step: 4, look: 6, save: 1, pass: 1, states: 0.2, text: 0 }

/** The seconds of all that a recovery does. */
const secondsOf = ({ windows, looks }: { windows: number; looks: number }, { open, step, look, save, pass, states, text }: Costs) =>
  open + pass + (asked.heldOut + windows) * states + windows * (step / 4 + text) + (looks + 1) * look + looks * save + save / 3

test('everything that a recovery does takes the requested time', () => {
  for (const minutes of [1, 2, 5, 10, 60]) {
    for (const own of [costs, { ...costs, text: 0.5 }, { ...costs, save: 20 }, { ...costs, look: 0.5 }]) {
      const taken = secondsOf(lengthWithin(60 * minutes, own, { ...asked, minutes }), own) / (60 * minutes)
      expect(taken, `${minutes} min`).toBeGreaterThan(0.9)
      expect(taken, `${minutes} min`).toBeLessThan(1.1)
    }
  }
})

test('a short recovery measures itself less often, and a long one up to eight times', () => {
  const looks = [1, 2, 5, 10, 60].map((minutes) => lengthWithin(60 * minutes, costs, { ...asked, minutes }).looks)
  expect(looks).toEqual([...looks].sort((a, b) => a - b))
  expect([looks[0], looks.at(-1)]).toEqual([2, 8])
})

test('minutes in which nothing can be trained are refused, with those that suffice', () => {
  const slow = { ...costs, look: 120 }
  expect(() => lengthWithin(180, slow, { ...asked, minutes: 3 })).toThrow(
    /^3 minutes are too short for this recovery: .* take about 5\. Choose at least 5 minutes/,
  )
  expect(lengthWithin(300, slow, { ...asked, minutes: 5 }).windows).toBeGreaterThan(0)
})

test('the default rate follows the size of the weights and the width, and has a limit', () => {
  // The widths and the root mean squares of SmolLM2-135M, Qwen2.5-Coder-0.5B, Gemma 3 270M and the sample model.
  expect(usualRate(576, 0.193, 'all')).toBeCloseTo(4e-4, 9)
  expect(usualRate(896, 0.0184, 'all')).toBeCloseTo(2.45e-5, 7)
  expect(usualRate(640, 0.0344, 'all')).toBeCloseTo(6.4e-5, 6)
  expect(usualRate(128, 0.119, 'all')).toBe(1e-3)
  expect(usualRate(576, 0.0193, 'low-rank')).toBeCloseTo(2e-4, 9)
})
