import { describe, expect, test } from 'vitest'
import { heldOutKinds, heldOutWindows, ownTextKind } from '#contract/pruning/recovery.ts'
import { endsEarly, readHeldOut, scoreOf } from '#engine/pruning/recovery/held-out.ts'

const planned = 8000
/** Divergences by kind, measured after each eighth of the tokens. */
const curve = (heldOut: number[][]) => heldOut.map((values, look) => ({ tokens: (planned / 8) * look, heldOut: values }))
/** After how many measurements a training ends. */
const looksOf = (heldOut: number[][]) => {
  const points = curve(heldOut)
  const end = points.findIndex((_, look) => endsEarly(points.slice(0, look + 1), planned))
  return end < 0 ? points.length : end + 1
}

describe('a training ends before its last token', () => {
  test.each([
    // The second kind of text in a real training, which ended after two worse measurements in a row.
    [
      'not where one kind is uneven while the others fall',
      [
        [1, 0.9],
        [0.8, 0.5],
        [0.7, 0.364],
        [0.65, 0.435],
        [0.62, 0.406],
        [0.6, 0.39],
        [0.55, 0.36],
        [0.5, 0.34],
        [0.5, 0.33],
      ],
      9,
    ],
    ['not where all kinds are a little worse than at their best', [[1], [0.7], [0.76], [0.75], [0.76], [0.74], [0.72], [0.69], [0.68]], 9],
    ['not where it was clearly worse twice', [[1], [0.7], [0.9], [0.9], [0.75], [0.9], [0.9], [0.7], [0.6]], 9],
    ['where it was clearly worse for a fifth of its tokens', [[1], [0.7], [0.8], [0.85], [0.9], [0.95], [1], [1], [1]], 5],
    ['where it was clearly worse than at the start from the first measurement on', [[1], [1.2], [1.3], [1.2], [1], [1], [1], [1], [1]], 4],
  ] as [string, number[][], number][])('%s', (_, heldOut, looks) => {
    expect(looksOf(heldOut)).toBe(looks)
  })

  test('by tokens, however often it is measured', () => {
    const rare = [0, 2000, 4000, 6000].map((tokens, look) => ({ tokens, heldOut: [look === 0 ? 1 : 1.2] }))
    expect(endsEarly(rare.slice(0, 2), planned)).toBe(false)
    expect(endsEarly(rare.slice(0, 3), planned)).toBe(true)
    const often = Array.from({ length: 17 }, (_, look) => ({ tokens: 500 * look, heldOut: [look === 0 ? 1 : 1.2] }))
    expect(often.findIndex((_, look) => endsEarly(often.slice(0, look + 1), planned))).toBe(5)
  })
})

test('weights are scored by the mean of all kinds, and never used if one kind became worse', () => {
  expect(scoreOf([2, 4], [1, 3])).toBe(2)
  // From a real training: the second kind had been repaired so well that 0.02 nats were a seventh of its divergence.
  expect(scoreOf([1.05, 0.14, 0.48], [0.95, 0.16, 0.45])).toBeLessThan(scoreOf([1.05, 0.14, 0.48], [1.05, 0.14, 0.48]))
  expect(scoreOf([2, 4], [0.2, 4.06])).toBe(Number.POSITIVE_INFINITY)
  expect(scoreOf([2, 4], [Number.NaN, 1])).toBe(Number.POSITIVE_INFINITY)
})

test('held-out windows of a kind are spread over all of it', async () => {
  const accepted: string[] = []
  const windows = Array.from({ length: 80 }, (_, i) => Int32Array.of(i))
  const kinds = await readHeldOut({ source: 'mixed', sequenceLength: 1 }, async (data, seed, accepts = () => false) => {
    expect([data, seed]).toEqual([{ source: 'mixed', sequenceLength: 1 }, 0])
    accepted.push(...['prose', ...heldOutKinds].filter(accepts))
    return { windows: accepted.length === 2 ? windows.slice(0, 3) : windows }
  })
  expect(accepted).toEqual([...heldOutKinds])
  expect(kinds.map(({ kind }) => kind)).toEqual([...heldOutKinds])
  const numbers = kinds.map((kind) => kind.windows.map(([id]) => id))
  expect(numbers[0]).toEqual([5, 15, 25, 35, 45, 55, 65, 75])
  expect(numbers[0]).toHaveLength(heldOutWindows)
  // A short kind contributes everything it has.
  expect(numbers[1]).toEqual([0, 1, 2])
})

test('a split text of the person’s own has held-out windows too, drawn from its part for choices', async () => {
  const own = { source: '/notes', split: { part: 'choosing' as const, seed: 3 } }
  const mix = [
    { ...own, share: 0.5 },
    { source: 'mixed', share: 0.5 },
  ]
  const heldOut = (count: number) =>
    readHeldOut({ source: 'both', sequenceLength: 1, mix }, async (data, seed) => {
      if (data.source === 'mixed') return { windows: [Int32Array.of(0)] }
      expect([data.source, data.split, seed > 0]).toEqual([own.source, own.split, true])
      return { windows: Array.from({ length: Math.min(count, data.windows ?? 0) }, (_, i) => Int32Array.of(i)) }
    })
  const kinds = await heldOut(1000)
  expect(kinds.map(({ kind }) => kind)).toEqual([...heldOutKinds, ownTextKind])
  expect(kinds.at(-1)?.windows.length).toBe(heldOutWindows)
  // Of a short text, most is trained on.
  expect((await heldOut(9)).at(-1)?.windows.length).toBe(2)
})
