import { describe, expect, test } from 'vitest'
import { inspection } from '#contract/inspection/inspection.ts'
import { measureRequest } from '#contract/runs/run-request.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { partTitles } from '#contract/runs/time/progress.ts'
import { listPhases, secondsWithOthers, takeEvent, takeProgress, undecidedText } from '../../../../src-renderer/features/run/live-run.ts'

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
  expect(listPhases(run, phases).map(({ name }) => name)).toEqual(['Reading the model', 'scoring', 'perplexity'])
  expect(listPhases({ ...run, status: 'done' }, phases).map(({ name }) => name)).toEqual(['Reading the model'])
  expect(listPhases({ ...run, status: 'paused' }, phases).map(({ name, state }) => [name, state])).toEqual([
    ['Reading the model', 'done'],
    ['scoring', 'done'],
    ['perplexity', 'stopped'],
  ])
})

test('every part of a run that the engine times has a title in words, and one of another version gets a capital', () => {
  const kinds = [...measureRequest.options, ...inspection.options].map(({ shape }) => shape.kind.value)
  const parts = [...kinds, ...Object.keys(partTitles)]
  const named = listPhases({ ...run, status: 'done', phaseSeconds: Object.fromEntries(parts.map((part) => [part, 1])) }, [])
  for (const { name } of named) expect(parts).not.toContain(name)
  for (const kind of kinds) expect(Object.keys(partTitles)).toContain(kind)
  expect(listPhases({ ...run, phaseSeconds: { 'older part': 1 } }, []).map(({ name }) => name)).toEqual(['Older part'])
})

test('a run without decisions says whether it scores, waits for memory, or has nothing to decide', () => {
  const textOf = (changes: Partial<RunDetail>, waits = false) =>
    undecidedText({ ...run, method: '2ssp', baseline: false, ...changes }, waits)
  expect(textOf({})).toBe('No decision yet. The method is still scoring.')
  expect(textOf({}, true)).toBe('No decision yet. The run waits for memory.')
  expect(textOf({ status: 'done' })).toBe('This run made no decisions.')
  expect([textOf({ method: 'dense' }), textOf({ method: 'dense', baseline: true }, true)]).toEqual([
    'Unpruned file: nothing is removed.',
    'Unpruned baseline: nothing is removed.',
  ])
})

test('the time with the steps of other runs counts their repair and recovery as well as their pruning', () => {
  // A run of 388 s whose repair, too, another run had done.
  const phaseSeconds = { pruning: 0.6, repair: 174, recovery: 359, perplexity: 28, 'done by other runs': 200 }
  expect(secondsWithOthers({ status: 'done', seconds: 388, phaseSeconds })).toBeCloseTo(761.6)
  expect(secondsWithOthers({ status: 'done', seconds: 388, phaseSeconds: { recovery: 359, perplexity: 28 } })).toBeNull()
})
