import { expect, test } from 'vitest'
import type { RepairedProjection } from '#contract/pruning/repair.ts'
import type { RunDetail } from '#contract/runs/runs.ts'
import { takeEvent } from '../../../../../src-renderer/features/run/live-run.ts'
import { recoveryOutcome, recoveryPlot, repairOutcome } from '../../../../../src-renderer/features/run/results/recovery-curves.ts'

const point = (step: number, loss: number | null, heldOut: number[]) => ({ step, tokens: 2048 * step, loss, heldOut })
const run = { recovery: null, recoveryPoints: [] } as unknown as RunDetail

test('points are shown as they are measured, each once', () => {
  const first = takeEvent(run, { type: 'recovery', point: point(0, null, [2, 3, 4]) })
  const second = takeEvent(first, { type: 'recovery', point: point(2, 1.5, [1, 2, 3]) })
  const again = takeEvent(second, { type: 'recovery', point: point(2, 1.4, [1, 2, 3]) })
  expect(recoveryPlot(again).series).toEqual([
    {
      name: 'held out: definitions',
      points: [
        { x: 0, y: 2 },
        { x: 4096, y: 1 },
      ],
    },
    {
      name: 'held out: lists',
      points: [
        { x: 0, y: 3 },
        { x: 4096, y: 2 },
      ],
    },
    {
      name: 'held out: technical',
      points: [
        { x: 0, y: 4 },
        { x: 4096, y: 3 },
      ],
    },
    { name: 'training text', points: [{ x: 4096, y: 1.4 }] },
  ])
})

test('the outcome says which weights were taken, and where training stopped', () => {
  const outcome = (best: number, ...heldOut: number[][]) =>
    recoveryOutcome({
      points: heldOut.map((values, step) => point(2 * step, 1, values)),
      heldOut: [{ kind: 'lists' }, { kind: 'definitions' }],
      best,
      steps: 4,
      plannedSteps: 8,
    } as unknown as NonNullable<RunDetail['recovery']>)
  expect(outcome(1, [2, 2], [1, 1], [1.2, 1])).toBe(
    'The weights are those after 4,096 tokens, which were best on the held-out text. Training stopped after 4 of 8 steps.',
  )
  expect(outcome(0, [2, 2], [2, 2.1])).toBe('The held-out text got no better, so the weights are unchanged.')
  const why = 'Others were better on average, but more than 0.05 nats worse than at the start on definitions.'
  expect(outcome(1, [2, 2], [1.9, 1.9], [1, 2.1])).toContain(`after 4,096 tokens. ${why} Training stopped`)
  expect(outcome(0, [2, 2], [1, 2.1])).toBe(`The weights are unchanged. ${why}`)
})

test('a repair says what it kept, and apart from that the experts that too few tokens chose', () => {
  const one = (after: number, experts?: RepairedProjection['experts']): RepairedProjection => ({
    block: 0,
    projection: 'down',
    ridge: 0.1,
    before: 0.2,
    after,
    ...(experts ? { experts } : {}),
  })
  expect(repairOutcome([one(0.1), one(0.1)])).toBe('Projections: 2 replaced.')
  expect(repairOutcome([one(0.1), one(0.2)])).toBe('Projections: 1 replaced; 1 kept, as the error on held-out windows did not fall.')
  expect(repairOutcome([one(0.1, { replaced: 3, fitted: 4, all: 6 }), one(0.2, { replaced: 0, fitted: 0, all: 2 })])).toBe(
    'Projections: 3 replaced; 1 kept, as the error on held-out windows did not fall; 4 kept, as too few tokens chose the expert.',
  )
})
