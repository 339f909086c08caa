import { expect, test } from 'vitest'
import { speedRangeText } from '../../../../../src-renderer/features/new-experiment/amounts/speed-range.svelte.ts'

test('a range names the method, the weight type and the unit', () => {
  const asked = { model: 'm', method: '2ssp', weights: 'Q8_0' as const }
  expect(speedRangeText({ ...asked, speed: { tokensPerSecond: 1 } }, { from: 43.21, to: 110.4 })).toBe(
    'Estimated from four files: 2SSP in Q8_0 reaches 43.2 to 110 tokens/s on this machine.',
  )
  expect(speedRangeText({ ...asked, speed: { milliseconds: 1, prompt: 512 } }, { from: 61.17, to: 240 })).toBe(
    'Estimated from four files: 2SSP in Q8_0 reaches 61.2 to 240 ms to the first token after 512 tokens on this machine.',
  )
})
