import { describe, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { breathe } from '#engine/model/walk.ts'
import { type Moments, stepAdam, sumOfSquares } from '#engine/pruning/recovery/adam.ts'
import { plainly } from '../../backend/plainly.ts'

const { fused } = await openBackend('tensorflow')

const wave = (length: number, pace: number, size: number) => Float32Array.from({ length }, (_, i) => size * Math.sin(pace * i + 1))

async function threeSteps(length: number, run: (work: () => Promise<void>) => Promise<void>): Promise<Moments> {
  const moments = { values: wave(length, 0.7, 1), first: new Float32Array(length), second: new Float32Array(length) }
  for (const step of [1, 2, 3]) await run(() => stepAdam(moments, wave(length, step, 0.01), { step, rate: 1e-3, factor: 0.5 }, breathe))
  return moments
}

// More entries than one thread's task takes, and fewer than a vector holds.
describe.skipIf(!fused)('AdamW on arrays', () => {
  test.each([1, 7, 70_001])('three steps of %i entries equal those of one entry after the other', async (length) => {
    const [own, again] = [await threeSteps(length, (work) => work()), await threeSteps(length, (work) => work())]
    const plain = await threeSteps(length, (work) => plainly(work))
    for (const key of ['values', 'first', 'second'] as const) {
      expect(again[key]).toEqual(own[key])
      for (const [i, value] of plain[key].entries())
        expect(Math.abs((own[key][i] as number) - value)).toBeLessThanOrEqual(1e-6 * Math.abs(value) + 1e-9)
    }
    expect(own.values[0]).not.toBe(wave(1, 0.7, 1)[0])
  })

  test('the sum of squares is that of all entries', () => {
    const gradient = wave(70_001, 0.3, 2)
    expect(sumOfSquares(gradient) / plainly(() => sumOfSquares(gradient))).toBeCloseTo(1, 12)
  })

  test('a pause that throws ends a step between two pieces of a tensor', async () => {
    const length = 3 * 2 ** 20
    const moments = { values: wave(length, 0.7, 1), first: new Float32Array(length), second: new Float32Array(length) }
    const stop = () => Promise.reject(new Error('cancelled'))
    await expect(stepAdam(moments, wave(length, 1, 0.01), { step: 1, rate: 1e-3, factor: 1 }, stop)).rejects.toThrow('cancelled')
    expect([moments.first[0], moments.first[2 ** 20 - 1]]).not.toContain(0)
    expect([moments.first[2 ** 20], moments.first[length - 1]]).toEqual([0, 0])
  })

  test('arrays of different lengths are refused', () => {
    const short = new Float32Array(3)
    expect(() => fused?.arrays?.stepAdam(new Float32Array(4), short, short, short, 0, 0, 1, 1, 1, 1)).toThrow('Float32Arrays of one length')
  })
})
