import { expect, test } from 'vitest'
import { type Duel, outcomeText } from '#contract/comparison/worth.ts'

test('a win that a veto takes back says so', () => {
  const duel = { outcome: 'better', vetoed: true } as Duel
  expect([outcomeText(duel), outcomeText({ ...duel, vetoed: false })]).toEqual(['better, but its answers loop', 'better'])
})
