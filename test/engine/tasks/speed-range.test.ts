import { expect, test } from 'vitest'
import { measureSpeedRange } from '#engine/tasks/speed-range.ts'
import { referenceModel } from '../../fixtures/reference.ts'

test('the speeds that 2SSP can reach are timed in twelve turns, and the slower end comes first', async () => {
  const turns: unknown[] = []
  const host = { signal: new AbortController().signal, emit: (event: unknown) => void turns.push(event) }
  const asked = {
    model: await referenceModel('stories260k'),
    method: '2ssp',
    options: {},
    weights: 'Q8_0' as const,
    speed: { tokensPerSecond: 1 },
  }
  const rate = await measureSpeedRange(asked, host)
  expect(turns.at(-1)).toEqual({ done: 12, total: 12 })
  expect(rate.from).toBeGreaterThan(0)
  expect(rate.to).toBeGreaterThan(rate.from)
})
