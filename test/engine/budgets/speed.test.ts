import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import type { SpeedBudget } from '#contract/runs/run-request.ts'
import { planAtSpeed, planWithin } from '#engine/budgets/plan-within.ts'
import { denseView } from '#engine/model/views/view.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { openReference, recordedRun } from '../pruning/running.ts'

const open = openReference('stories260k')
const few = { '2ssp': { windows: 2 }, gates: { windows: 2, steps: 4, windowsPerStep: 1 } }

/** Milliseconds of a machine: with a bend, wide MLPs cost more than their share, so that a sum of parts is wrong. */
function timeOf({ blocks }: Plan, bend: number): number {
  const neurons = blocks.reduce((sum, { mlp }) => sum + (mlp === 'removed' ? 0 : mlp.kept === 'all' ? 172 : mlp.kept.length), 0)
  const kept = blocks.filter((block) => block.attention === 'kept').length
  return 2 + 0.01 * neurons + 0.5 * kept + bend * (neurons / 860) ** 2
}

/** On a machine that is slower by half after the first files. */
async function planFor(method: keyof typeof few, budget: SpeedBudget, bend: number) {
  const { model, calibration } = open()
  const timed: number[] = []
  const input = {
    view: denseView(model),
    calibration: calibration.slice(0, 10).map((window) => window.slice(0, 32)),
    options: parseOptions(findMethod(method), few[method]),
    run: recordedRun(),
  }
  const found = await planAtSpeed(model.spec, method, input, budget, async (plans) => {
    timed.push(plans.length)
    return plans.map((plan) => timeOf(plan, bend) * (timed.length > 1 ? 1.5 : 1))
  })
  return { ...found, timed }
}

describe.each(['2ssp', 'gates'] as const)('%s', (method) => {
  test('meets milliseconds from four measured files, and measures the result', async () => {
    const { result, real, predicted, timed } = await planFor(method, { milliseconds: 9, prompt: 64 }, 0)
    expect(real).toBeCloseTo(timeOf(result.plan, 0), 9)
    expect(Math.abs(real / 9 - 1)).toBeLessThan(0.1)
    expect(predicted).toBeCloseTo(real, 0)
    expect(timed).toEqual([4, 2])
  })

  test('is corrected once where time does not grow linearly', async () => {
    const { real, predicted, timed } = await planFor(method, { tokensPerSecond: 100 }, 6)
    expect(timed).toEqual([4, 2, 2])
    expect(Math.abs(real / 10 - 1)).toBeLessThan(0.1)
    expect(Math.abs(predicted / real - 1)).toBeGreaterThan(0.01)
  })

  test('refuses a speed that it cannot reach before it runs, with the range', async () => {
    await expect(planFor(method, { tokensPerSecond: 10_000 }, 0)).rejects.toThrow(
      /cannot reach 10000tok\/s: its files have [\d.]+ tokens\/s to/,
    )
  })
})

test('a method of large steps takes the next one where the first costs more than was foreseen', async () => {
  const { model, calibration } = open()
  const costOf = ({ blocks }: Plan) => 10 * blocks.filter(({ attention }) => attention === 'kept').length
  const input = {
    view: denseView(model),
    calibration: calibration.slice(0, 2).map((window) => window.slice(0, 32)),
    options: parseOptions(findMethod('shortgpt'), {}),
    run: recordedRun(),
  }
  const cost = { asked: '45', text: String, spare: 0, most: 45, of: async (plan: Plan) => costOf(plan) }
  const real = async (plan: Plan) => costOf(plan) + 8
  const found = await planWithin(model.spec, 'shortgpt', input, cost, { real, near: 0.01, mayPass: false, attempts: 3 })
  expect([found.predicted, found.real]).toEqual([30, 38])
})
