import { expect, test } from 'vitest'
import { addRanges, deviation, rangeLeft, secondsLeft } from '#contract/runs/time/estimate.ts'
import type { Progress } from '#contract/runs/time/progress.ts'

const phases = [
  { phase: 'one', part: 'pruning', seconds: 10 },
  { phase: 'two', part: 'pruning', seconds: 20 },
  { phase: 'three', part: 'perplexity', seconds: 30 },
]

test('all of a run is left before it begins, and what is behind its phase when it has begun', () => {
  expect(secondsLeft(null, { phases })).toBe(60)
  expect(secondsLeft({ phase: 'two', done: 0, total: 4, unit: 'rounds' }, { phases })).toBe(50)
  expect(secondsLeft({ phase: 'three', done: 3, total: 4, unit: 'parts' }, { phases })).toBe(7.5)
})

test('a phase that has the name of an earlier one is not taken for it', () => {
  const reading = { phase: 'Reading text', part: 'reading text', seconds: 1 }
  const estimate = { phases: [reading, phases[0], reading, phases[1], reading, phases[2]].flatMap((phase) => phase ?? []) }
  const at = (phase: string): Progress => ({ phase, done: 0, total: 4, unit: 'parts' })
  const left = (phase: string, ...earlier: string[]) => secondsLeft(at(phase), estimate, earlier.map(at))
  expect(left('Reading text')).toBe(63)
  expect(left('one', 'Reading text')).toBe(62)
  expect(left('Reading text', 'one')).toBe(52)
  expect(left('two', 'Reading text', 'one')).toBe(51)
  expect(left('Reading text', 'one', 'two')).toBe(31)
  expect(left('Downloading', 'Reading text', 'one')).toBe(52)
})

/** What a phase in rounds reports after `done` of `total`, `ratedFor` seconds after its beginning. */
const reported = (phase: string, done: number, total: number, ratedFor: number): Progress => {
  const perSecond = done / ratedFor
  return { phase, done, total, unit: 'rounds', ...(done > 0 ? { perSecond, ratedFor, secondsLeft: (total - done) / perSecond } : {}) }
}

test('a phase has the time of its own rate once half of it or two minutes were seen, and before that nearly that of the estimate', () => {
  const left = (progress: Progress) => secondsLeft(progress, { phases: phases.slice(0, 2) })
  expect(left(reported('two', 10, 20, 20))).toBe(20)
  expect(left(reported('two', 1, 100, 240))).toBeCloseTo(99 * 240, 6)
  expect(left(reported('two', 1, 20, 5))).toBeLessThan(1.25 * 20)
})

test('slow first samples, on a busy machine, never move the time left by a factor of two', () => {
  const estimate = { phases: [...phases, { phase: 'four', part: 'perplexity', seconds: 30 }] }
  const shown: number[] = []
  const earlier: Progress[] = []
  for (const { phase, seconds } of estimate.phases) {
    const windows = 20
    // The first window of a phase takes twelve times as long as expected, and the others take as long as expected: 139.5 s in all.
    const at = (done: number) => reported(phase, done, windows, ((done + (done > 0 ? 11 : 0)) * seconds) / windows)
    for (let done = 0; done <= windows; done++) shown.push(secondsLeft(at(done), estimate, earlier))
    earlier.push(at(windows))
  }
  expect(shown[0]).toBe(90)
  const jumps = shown.slice(1, -1).map((left, index) => left / (shown[index] ?? 0))
  expect(Math.max(...jumps)).toBeLessThan(1.5)
  expect(Math.max(...shown)).toBeLessThan(139.5)
})

test('a machine that is three times slower than expected shows it soon, and a new phase does not forget it', () => {
  const long = phases.map((phase) => ({ ...phase, seconds: 10 * phase.seconds }))
  const slow = (phase: string, done: number) =>
    reported(phase, done, 20, (done * 3 * (long.find((one) => one.phase === phase)?.seconds ?? 0)) / 20)
  const [before, after] = [
    secondsLeft(slow('two', 19), { phases: long }, [slow('one', 20)]),
    secondsLeft(slow('three', 0), { phases: long }, [slow('one', 20), slow('two', 20)]),
  ]
  for (const left of [before, after]) {
    expect(left).toBeGreaterThan(2.5 * 300)
    expect(left).toBeLessThan(3.2 * 315)
  }
})

test('what waits is taken to deviate as the current phase does, within limits, and a brief phase says little', () => {
  const long = phases.map((phase) => ({ ...phase, seconds: 100 * phase.seconds }))
  const at = (done: number, ratedFor: number) => reported('two', done, 20, ratedFor)
  expect(deviation(at(10, 2000), { phases: long })).toBeCloseTo(2, 1)
  expect(deviation(at(10, 1e6), { phases: long })).toBe(4)
  expect(deviation(at(10, 100), { phases: long })).toBe(0.25)
  const brief = phases.map((phase) => ({ ...phase, seconds: phase.seconds / 100 }))
  expect(deviation(at(20, 0.8), { phases: brief }), 'four times 0.2 s').toBeLessThan(1.2)
  for (const [progress, own] of [
    [at(0, 1), phases],
    [{ ...at(10, 30), phase: 'Downloading' }, phases],
    [null, phases],
    [at(10, 30), []],
  ] as const)
    expect(deviation(progress, { phases: [...own] })).toBe(1)
})

test('how fast the model is read says nothing of what follows', () => {
  const all = [{ phase: 'Reading the model', part: 'open', seconds: 4 }, ...phases]
  const progress = { phase: 'Reading the model', done: 9, total: 10, unit: 'bytes', perSecond: 2, ratedFor: 4.5, secondsLeft: 0.5 }
  expect(secondsLeft(progress, { phases: all })).toBeCloseTo(60.5, 6)
})

test('a phase of unknown length is followed by what comes after it', () => {
  const all = [...phases.slice(0, 2), { phase: 'Writing the file in Q8_0', part: 'quantising', seconds: 0 }, ...phases.slice(2)]
  const progress = { phase: 'Writing the file in Q8_0', done: 2, total: 4, unit: 'bytes', perSecond: 1, secondsLeft: 2 }
  expect(secondsLeft(progress, { phases: all })).toBe(2 + 30)
})

test('a phase without an estimate is followed by the phases that have not begun', () => {
  const fetching = { phase: 'Downloading', done: 1, total: 2, unit: 'bytes', secondsLeft: 7 }
  expect(secondsLeft(fetching, { phases })).toBe(67)
  expect(secondsLeft(fetching, { phases }, [{ phase: 'two', done: 4, total: 4, unit: 'rounds' }])).toBe(37)
})

test('a range shrinks with what is left, and ranges add up', () => {
  const half = rangeLeft(30, { low: 40, likely: 60, high: 90 })
  expect(half).toEqual({ low: 20, likely: 30, high: 45 })
  expect(addRanges([half, half])).toEqual({ low: 40, likely: 60, high: 90 })
})
