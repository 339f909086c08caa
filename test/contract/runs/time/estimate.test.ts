import { expect, test } from 'vitest'
import { addRanges, deviation, rangeLeft, secondsLeft } from '#contract/runs/time/estimate.ts'

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

test('a phase that goes half as fast as expected makes those behind it twice as long', () => {
  const progress = { phase: 'two', done: 10, total: 20, unit: 'rounds', perSecond: 0.5, secondsLeft: 20 }
  expect(secondsLeft(progress, { phases })).toBe(20 + 2 * 30)
})

test('what waits is taken to deviate as the current phase does, once that tells, and within limits', () => {
  const at = (done: number, perSecond: number) => ({ phase: 'two', done, total: 20, unit: 'rounds', perSecond, secondsLeft: 1 })
  expect(deviation(at(10, 0.5), { phases })).toBe(2)
  expect(deviation(at(10, 100), { phases })).toBe(0.25)
  expect(deviation(at(10, 0.001), { phases })).toBe(4)
  for (const [progress, own] of [
    [at(0, 0.5), phases],
    [{ ...at(10, 1), phase: 'Downloading' }, phases],
    [null, phases],
    [at(10, 1), []],
  ] as const)
    expect(deviation(progress, { phases: [...own] })).toBeUndefined()
})

test('how fast the model is read says nothing of what follows', () => {
  const all = [{ phase: 'Reading the model', part: 'open', seconds: 4 }, ...phases]
  const progress = { phase: 'Reading the model', done: 9, total: 10, unit: 'bytes', perSecond: 1000, secondsLeft: 0.5 }
  expect(secondsLeft(progress, { phases: all })).toBe(60.5)
})

test('a phase of unknown length is followed by what comes after it', () => {
  const all = [...phases.slice(0, 2), { phase: 'Writing the file in Q8_0', part: 'quantising', seconds: 0 }, ...phases.slice(2)]
  const progress = { phase: 'Writing the file in Q8_0', done: 2, total: 4, unit: 'bytes', perSecond: 1, secondsLeft: 2 }
  expect(secondsLeft(progress, { phases: all })).toBe(2 + 30)
})

test('a phase without an estimate has the seconds that it reports itself', () => {
  expect(secondsLeft({ phase: 'Downloading', done: 1, total: 2, unit: 'bytes', secondsLeft: 7 }, { phases })).toBe(7)
})

test('a range shrinks with what is left, and ranges add up', () => {
  const half = rangeLeft(30, { low: 40, likely: 60, high: 90 })
  expect(half).toEqual({ low: 20, likely: 30, high: 45 })
  expect(addRanges([half, half])).toEqual({ low: 40, likely: 60, high: 90 })
})
