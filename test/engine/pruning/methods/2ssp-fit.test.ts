import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { denseView } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { fittedTwoStage } from '#engine/pruning/methods/2ssp-fit.ts'
import { reachedSparsity } from '#engine/pruning/plan.ts'
import { openReference, recordedRun } from '../running.ts'

const widthsOf = ({ blocks }: Plan) => blocks.map(({ mlp }) => (mlp === 'removed' || mlp.kept === 'all' ? -1 : mlp.kept.length))

// One of each kind of block: gated, parallel, with norms after submodules, with norms of queries and keys. `every-method.test.ts` covers
// all families.
describe.each(['stories260k', 'phi-tiny', 'gemma3', 'qwen3'] as const)('%s', (name) => {
  const open = openReference(name)
  const input = (sparsity: number, run = recordedRun()) => {
    const { model, calibration } = open()
    return {
      view: denseView(model),
      calibration: calibration.slice(0, 10).map((window) => window.slice(0, 32)),
      budget: budgetFor(model.spec, { sparsity }),
      options: fittedTwoStage.options.parse({ windows: 8, tableWindows: 1, unit: 16, least: 16 }),
      run,
    }
  }

  test('reaches the sparsity in units, with every number that it was decided by', async () => {
    const { model } = open()
    const before = memory().numTensors
    const { plan, fit } = await fittedTwoStage.plan(input(0.4))
    const reached = reachedSparsity(model.spec, plan)
    expect(reached).toBeGreaterThanOrEqual(0.4)
    expect(reached).toBeLessThan(0.46)
    expect(widthsOf(plan).every((width) => width % 16 === 0)).toBe(true)
    expect(fit?.blocks.map(({ width }) => width)).toEqual(widthsOf(plan))
    const { widths = [], blocks = [], base } = fit ?? {}
    for (const { divergences } of blocks) {
      expect(divergences).toHaveLength(widths.length)
      expect(divergences.toSorted((a, b) => b - a)).toEqual(divergences)
    }
    expect(widths).toContain(base)
    expect(memory().numTensors).toBeLessThan(before + 200)
  })
})

describe('a run', () => {
  const open = openReference('stories260k')
  const input = (sparsity: number, run: ReturnType<typeof recordedRun>) => {
    const { model, calibration } = open()
    return {
      view: denseView(model),
      calibration: calibration.slice(0, 10).map((window) => window.slice(0, 32)),
      budget: budgetFor(model.spec, { sparsity }),
      options: fittedTwoStage.options.parse({ windows: 8, tableWindows: 1, unit: 16, least: 16 }),
      run,
    }
  }

  test('that was killed ends the same way, and another sparsity finds the table', async () => {
    const steps = new Map<string, string>()
    const whole = await fittedTwoStage.plan(input(0.4, recordedRun(0, steps)))
    for (const stopAfter of [1, 4, 8, 11]) {
      const known = new Map<string, string>()
      await expect(fittedTwoStage.plan(input(0.4, recordedRun(0, known, stopAfter)))).rejects.toThrow('killed')
      expect(await fittedTwoStage.plan(input(0.4, recordedRun(0, known)))).toEqual(whole)
    }
    const shared = new Map([...steps].filter(([name]) => name.startsWith('shared: ')))
    const other = recordedRun(0, shared)
    await fittedTwoStage.plan(input(0.25, other))
    expect(other.computed.filter((name) => name.startsWith('table') || name.startsWith('shared'))).toEqual([])
  })
})
