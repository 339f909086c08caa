import { describe, expect, test } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { lengthOf, type Moments, stepAdam } from '#engine/pruning/recovery/adamw.ts'
import { plainly } from '../../backend/plainly.ts'

const { fused } = await openBackend('tensorflow')

const wave = (length: number, pace: number, size: number) => Float32Array.from({ length }, (_, i) => size * Math.sin(pace * i + 1))

async function threeSteps(length: number, run: (work: () => Promise<void>) => Promise<void>): Promise<Moments> {
  const moments = { values: wave(length, 0.7, 1), first: new Float32Array(length), second: new Float32Array(length) }
  for (const step of [1, 2, 3]) await run(() => stepAdam(moments, wave(length, step, 0.01), { step, rate: 1e-3, factor: 0.5 }))
  return moments
}

// More entries than a task of a thread takes, and fewer than a vector holds.
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

  test('the length of gradients is that of all entries', () => {
    const gradients = [wave(70_001, 0.3, 2), wave(5, 0.1, 1)]
    expect(lengthOf(gradients) / plainly(() => lengthOf(gradients))).toBeCloseTo(1, 12)
  })

  test('arrays of different lengths are refused', () => {
    const short = new Float32Array(3)
    expect(() => fused?.arrays.stepAdam(new Float32Array(4), short, short, short, 0, 0, 1, 1, 1, 1)).toThrow('Float32Arrays of one length')
  })
})
