import { expect, test } from 'vitest'
import type { PhaseWork, Work } from '#contract/runs/time/estimate.ts'
import { Experience, estimateRun, rateFor, withoutPart, withoutShared } from '#services/experiments/estimate-seconds.ts'

const narrow = {
  hidden: 100,
  attention: 10,
  mlp: 10,
  head: 10,
  double: 1,
  vectors: 1,
  solved: 1,
  call: 0.5,
  decoded: 1,
  stored: 4,
  thirds: 1,
  split: 1,
  bfloat16: 2,
  auto: 1,
}
const rates = [narrow, { ...narrow, hidden: 400, attention: 40 }]
const phase = (name: string, part: string, mlp: number, shared?: string): PhaseWork => ({
  phase: name,
  part,
  mlp,
  attention: 0,
  head: 0,
  double: 0,
  vectors: 0,
  solved: 0,
  calls: 0,
  decoded: 0,
  stored: 0,
  seconds: 0,
  ...(shared === undefined ? {} : { shared }),
})
const work: Work = { hidden: 100, phases: [phase('scoring', 'pruning', 100, 'scores'), phase('measuring', 'perplexity', 50)] }

test('a width between two that were timed has a rate between theirs, and one beyond them the nearest', () => {
  expect(rateFor(rates, 200).attention).toBeCloseTo(20, 10)
  expect(rateFor(rates, 4000).attention).toBe(40)
  expect(rateFor(rates, 10).attention).toBe(10)
})

test('passing a part takes some time however few rows it has', () => {
  const small: Work = { hidden: 100, phases: [{ ...phase('searching', 'pruning', 100), calls: 30 }] }
  expect(estimateRun('2ssp', small, rates, new Experience([], rates)).seconds.likely).toBeCloseTo(25, 10)
})

test('what other products do of a phase takes as much less time as the machine is faster by them', () => {
  const seconds = (products: 'bfloat16' | 'auto') => {
    const ranked: Work = { hidden: 100, phases: [{ ...phase('ranking', 'pruning', 100), faster: [{ products, share: 0.8 }] }] }
    return estimateRun('2ssp', ranked, rates, new Experience([], rates)).seconds.likely
  }
  expect(seconds('bfloat16')).toBeCloseTo(6, 10)
  expect(seconds('auto'), 'a GPU, where auto is float32').toBeCloseTo(10, 10)
})

test('a repair of a finished run takes what its own phases do, with as wide a range', () => {
  const whole = estimateRun('2ssp', work, rates, new Experience([], rates))
  expect(withoutPart(whole, 'pruning').seconds).toEqual({ low: 2.5, likely: 5, high: 10 })
})

test('the range narrows when a run of the model is done, and follows what it took', () => {
  const before = estimateRun('2ssp', work, rates, new Experience([], rates))
  expect(before).toMatchObject({ basis: 'machine', seconds: { low: 7.5, likely: 15, high: 30 } })
  const runs = [{ method: '2ssp', work, seconds: { pruning: 20, perplexity: 10 } }]
  const after = estimateRun('2ssp', work, rates, new Experience(runs, rates))
  expect(after.basis).toBe('runs')
  expect(after.seconds.likely).toBeCloseTo(30, 10)
  expect(after.seconds.high / after.seconds.low).toBeLessThan(2)
})

test('one run narrows the range of other methods to a factor of two, and passes like its own further', () => {
  const dense = { hidden: 100, phases: [phase('measuring', 'perplexity', 50)] }
  const after = new Experience([{ method: 'dense', work: dense, seconds: { perplexity: 6 } }], rates)
  const widthOf = (own: PhaseWork, experience: Experience) => {
    const { seconds } = estimateRun('shortgpt', { hidden: 100, phases: [own] }, rates, experience)
    return seconds.high / seconds.low
  }
  const scoring = phase('scoring', 'pruning', 100)
  expect(widthOf(scoring, new Experience([], rates))).toBeCloseTo(4, 10)
  expect(widthOf(scoring, after)).toBeLessThan(2)
  expect(widthOf({ ...phase('rotating', 'pruning', 0), vectors: 10 }, after), 'eigenvectors').toBeCloseTo(2, 10)
  const brief = [{ method: 'dense', work: { hidden: 100, phases: [phase('measuring', 'perplexity', 1)] }, seconds: { perplexity: 0.2 } }]
  expect(widthOf(scoring, new Experience(brief, rates)), 'after a fraction of a second').toBeCloseTo(2, 10)
})

test('runs of one experiment are estimated by what its own runs took, not by those of another day', () => {
  const own: Work = { hidden: 100, phases: [phase('scoring', 'pruning', 100), phase('measuring', 'perplexity', 50)] }
  const took = (experiment: string, method: string, pruning: number) => ({
    ...{ method, experiment, work: own, seconds: { pruning, perplexity: 10 } },
  })
  const experience = new Experience([took('now', '2ssp', 20), ...Array.from({ length: 9 }, () => took('before', '2ssp', 200))], rates)
  const secondsOf = (method: string, experiment: string | null) => estimateRun(method, own, rates, experience, experiment).seconds.likely
  expect(secondsOf('2ssp', 'now')).toBeCloseTo(30, 10)
  expect(secondsOf('2ssp', 'before')).toBeCloseTo(210, 10)
  expect(secondsOf('2ssp', null), 'by most of them').toBeCloseTo(210, 10)
  expect(secondsOf('shortgpt', 'now'), 'another method there').toBeCloseTo(10 * (21 / 11) ** 0.5 + 10, 10)
})

test('finished runs narrow the range of quantising, which is timed at its measured rate', () => {
  const after = new Experience([{ method: 'dense', work, seconds: { pruning: 20, perplexity: 10 } }], rates)
  const storing = { ...phase('Pricing weight types', 'choosing types', 0), stored: 400 }
  const before = estimateRun('dense', { hidden: 100, phases: [storing] }, rates, new Experience([], rates))
  expect(before.seconds.likely).toBe(100)
  const { seconds } = estimateRun('dense', { hidden: 100, phases: [storing] }, rates, after)
  expect(seconds.high / seconds.low).toBeLessThan(2)
})

test('a run that found its steps done by another says nothing of how long they take', () => {
  const first = { method: '2ssp', work, seconds: { pruning: 20, perplexity: 10 } }
  const second = { method: '2ssp', work, seconds: { pruning: 0.01, perplexity: 10 } }
  expect(estimateRun('2ssp', work, rates, new Experience([second, first], rates)).seconds.likely).toBeCloseTo(30, 10)
})

test('a method that was not run yet is judged by how the model’s other parts went', () => {
  const runs = [{ method: 'dense', work: { hidden: 100, phases: [phase('measuring', 'perplexity', 50)] }, seconds: { perplexity: 15 } }]
  expect(estimateRun('shortgpt', work, rates, new Experience(runs, rates)).seconds.likely).toBeCloseTo(15 + 10 * (16 / 6) ** 0.5, 10)
})

test('a run that took a fraction of a second says little of how fast others will be', () => {
  const short = { hidden: 100, phases: [phase('measuring', 'perplexity', 1)] }
  const pruning: Work = { hidden: 100, phases: [phase('ranking', 'pruning', 100)] }
  const after = new Experience([{ method: 'dense', work: short, seconds: { perplexity: 0.3 } }], rates)
  expect(estimateRun('shortgpt', pruning, rates, after).seconds.likely).toBeCloseTo(10 * (1.3 / 1.1) ** 0.5, 10)
})

test('what runs of an experiment share counts once', () => {
  const estimate = estimateRun('2ssp', work, rates, new Experience([], rates))
  const done = new Map<string, number>()
  expect(withoutShared(estimate, 'e/m', done).seconds.likely).toBeCloseTo(15, 10)
  expect(withoutShared(estimate, 'e/m', done).seconds.likely).toBeCloseTo(5, 10)
  expect(withoutShared(estimate, 'e/other', done).seconds.likely, 'another model shares nothing').toBeCloseTo(15, 10)
})
