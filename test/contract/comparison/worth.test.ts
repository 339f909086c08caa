import { expect, test } from 'vitest'
import { type Duel, outcomeText, qualityText, type WorthRow } from '#contract/comparison/worth.ts'

test('a win that a veto takes back says so', () => {
  const duel = { outcome: 'better', vetoed: true } as Duel
  expect([outcomeText(duel), outcomeText({ ...duel, vetoed: false })]).toEqual(['better, but its answers loop', 'better'])
})

test('a quality has its error where that is known', () => {
  const row = {
    quality: { prose: { mean: 40.123, error: 1.013, factor: true }, arc: { mean: 0.375, error: 0.021, factor: false } },
  } as unknown as WorthRow
  const texts = (of: WorthRow) =>
    [{ kind: 'prose' }, { kind: 'arc', measure: 'accuracy' }, { kind: 'code' }].map((front) => {
      return qualityText(of, { measure: 'perplexity', ...front } as Parameters<typeof qualityText>[1])
    })
  expect(texts(row)).toEqual(['40.12 ×/÷ 1.01', '37.5 ± 2.1 %', '–'])
  const bare = { prose: { mean: 40.123, error: null, factor: true }, arc: { mean: 0.375, error: 0, factor: false } }
  expect(texts({ ...row, quality: bare })).toEqual(['40.12', '37.5 %', '–'])
})
