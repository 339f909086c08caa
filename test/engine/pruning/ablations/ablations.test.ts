import { memory } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import type { AblationId } from '#contract/titles.ts'
import { denseView } from '#engine/model/views/view.ts'
import type { AblationInput } from '#engine/pruning/ablations/ablation.ts'
import { ablations, findAblation } from '#engine/pruning/ablations/index.ts'
import { renderSvg } from '#services/comparison/plot-svg.ts'
import { openReference, type RecordedRun, recordedRun } from '../running.ts'

describe('ablations of qwen2-tiny', () => {
  const open = openReference('qwen2-tiny')

  const inputFor = (options: object, run: RecordedRun): AblationInput<never> => {
    const { model, calibration, test: windows } = open()
    return {
      view: denseView(model),
      options: options as never,
      calibration: async (count, seed) => (seed === 0 ? calibration : calibration.toReversed()).slice(0, count),
      evaluation: { name: 'test', windows: windows.slice(0, 2) },
      run,
    }
  }

  const small: Record<AblationId, object> = {
    calibration: { sizes: [1, 4], seeds: [0, 1] },
    one_stage: { sparsities: [0.25, 0.5], windows: 4 },
    rows_vs_cols: { sparsities: [0.25], windows: 4 },
    l1_norm: { sparsities: [0.25], windows: 4 },
    balancing_sparsity_ratio: { sparsities: [0.25, 0.5], windows: 4 },
  }

  test.each(Object.keys(ablations) as AblationId[])(
    '%s gives a table and a plot, and the same ones from its recorded steps',
    async (id) => {
      const ablation = findAblation(id)
      const options = ablation.options.parse(small[id])
      const run = recordedRun()
      const first = await ablation.study(inputFor(options, run))
      const tensors = memory().numTensors
      const again = recordedRun(0, run.steps)
      const second = await ablation.study(inputFor(options, again))
      expect(second).toEqual(first)
      expect(again.computed, 'nothing is computed again').toEqual([])
      expect(memory().numTensors).toBe(tensors)
      const { columns, rows } = first.table
      expect(rows.length).toBeGreaterThan(1)
      for (const row of rows) expect(row).toHaveLength(columns.length)
      const svg = await renderSvg(first.plot)
      expect(svg.match(/<circle/g)).toHaveLength(first.plot.series.reduce((sum, { points }) => sum + points.length, 0))
      expect(svg).not.toContain('NaN')
    },
  )

  test('calibration sizes that the text is too short for are left out and named', async () => {
    const ablation = findAblation('calibration')
    const options = ablation.options.parse({ sizes: [2, 128], seeds: [0] })
    const { table, notes } = await ablation.study(inputFor(options, recordedRun()))
    expect(table.rows).toHaveLength(1)
    expect(notes[0]).toContain('64 windows')
  })
})

test('defaults are those of the reference', () => {
  expect(ablations.calibration.options.parse({})).toEqual({ sparsity: 0.5, sizes: [2, 4, 8, 16, 32, 64, 128, 256], seeds: [0, 1, 2, 3, 4] })
  expect(ablations.balancing_sparsity_ratio.options.parse({}).sparsities).toHaveLength(31)
  expect(() => findAblation('none')).toThrow('Choose one of: calibration, one_stage')
})
