import { describe, expect, test } from 'vitest'
import type { RunDetail } from '#contract/runs/runs.ts'
import { listPhases, reproducedNumbers, takeEvent, takeProgress } from '../../../../src-renderer/features/run/live-run.ts'

const run = {
  status: 'running',
  decisions: [],
  selections: [],
  spectra: [],
  gateSteps: [],
  measures: [],
  remarks: [],
  phaseSeconds: { open: 1 },
} as unknown as RunDetail
const decision = { round: 1, kind: 'attention', block: 3, scores: [] } as const

describe('events of a run', () => {
  test('add a decision once, even if it is reported again after a reconnect', () => {
    const once = takeEvent(run, { type: 'decision', decision: { ...decision, scores: [] } })
    expect(once.decisions).toHaveLength(1)
    expect(takeEvent(once, { type: 'decision', decision: { ...decision, scores: [] } })).toBe(once)
  })

  test('add the steps of gates in order, each once', () => {
    const step = (number: number, divergence: number) => ({
      ...{ type: 'gates' as const },
      step: { step: number, divergence, kept: [3], attentionRemoved: [], closed: 1, reopened: 0 },
    })
    const all = [step(2, 1.5), step(1, 2), step(2, 1.4)].reduce(takeEvent, run)
    expect(all.gateSteps.map(({ step: number, divergence }) => [number, divergence])).toEqual([
      [1, 2],
      [2, 1.4],
    ])
  })

  test('replace a measure that is taken again', () => {
    const measure = (value: number) => ({ type: 'measure' as const, measure: { name: 'perplexity', dataset: 'x', value, unit: '' } })
    const twice = takeEvent(takeEvent(run, measure(10)), measure(9))
    expect(twice.measures.map(({ value }) => value)).toEqual([9])
  })
})

test('only the newest phase is under way, all earlier ones are over', () => {
  const progress = (phase: string) => ({ phase, done: 1, total: 2, unit: 'windows' })
  const phases = takeProgress(takeProgress([], progress('scoring')), progress('perplexity'))
  expect(phases.map(({ name, state }) => [name, state])).toEqual([
    ['scoring', 'done'],
    ['perplexity', 'running'],
  ])
  expect(listPhases(run, phases).map(({ name }) => name)).toEqual(['open', 'scoring', 'perplexity'])
  expect(listPhases({ ...run, status: 'done' }, phases).map(({ name }) => name)).toEqual(['open'])
  expect(listPhases({ ...run, status: 'paused' }, phases).map(({ name, state }) => [name, state])).toEqual([
    ['open', 'done'],
    ['scoring', 'done'],
    ['perplexity', 'stopped'],
  ])
})

test('each number of a description is equal, another or missing here; times are not compared', () => {
  const number = (name: string, value: number) => ({ name, dataset: name === 'perplexity' ? 'test' : '', value, unit: '' })
  const described = [number('perplexity', 12.5), number('parameters', 100), number('size', 7), number('inference time', 3)]
  expect(reproducedNumbers(described, [number('perplexity', 12.5), number('parameters', 101)])).toEqual([
    { title: 'perplexity test', unit: '', described: 12.5, here: 12.5, equal: true },
    { title: 'parameters', unit: '', described: 100, here: 101, equal: false },
    { title: 'size', unit: '', described: 7, here: null, equal: false },
  ])
})
