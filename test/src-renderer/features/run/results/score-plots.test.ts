import { expect, test } from 'vitest'
import type { Fit } from '#contract/pruning/fit.ts'
import { curveOf, fitScale } from '../../../../../src-renderer/features/run/results/score-plots.ts'

const block = { block: 0, divergences: [2, 1, 0], attention: 0.5, width: 48, attentionRemoved: false }
const fit: Fit = { base: 64, widths: [32, 64, 128], blocks: [block] }

test('the chosen width is a point on the block’s line', () => {
  const scale = fitScale(fit, { left: 50, right: 500, top: 10, bottom: 200 })
  const { x, y, path } = curveOf(fit, block, scale)
  expect(path.startsWith(`M${scale.x.scale(32)},${Number(scale.y.scale(2).toFixed(3))}`)).toBe(true)
  expect(x).toBe(scale.x.scale(48))
  expect(y).toBeCloseTo((scale.y.scale(2) + scale.y.scale(1)) / 2)
})
