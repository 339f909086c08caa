import { expect, test } from 'vitest'
import { type Duel, outcomeText, qualityText, type WorthRow } from '#contract/comparison/worth.ts'

test('a win that a veto takes back says so', () => {
  const duel = { outcome: 'better', vetoed: true } as Duel
  expect([outcomeText(duel), outcomeText({ ...duel, vetoed: false })]).toEqual(['better, but its answers loop', 'better'])
})

test('a quality has its error where that is known', () => {
  const row = {
    quality: { prose: { mean: 40.123, error: 0.52 }, arc: { mean: 0.375, error: 0.021 } },
  } as unknown as WorthRow
  const texts = (of: WorthRow) =>
    [{ kind: 'prose' }, { kind: 'arc', measure: 'accuracy' }, { kind: 'code' }].map((front) => {
      return qualityText(of, { measure: 'perplexity', ...front } as Parameters<typeof qualityText>[1])
    })
  expect(texts(row)).toEqual(['40.12 ± 0.52', '37.5 ± 2.1 %', '–'])
  const bare = { prose: { mean: 40.123, error: null }, arc: { mean: 0.375, error: 0 } }
  expect(texts({ ...row, quality: bare })).toEqual(['40.12', '37.5 %', '–'])
})
