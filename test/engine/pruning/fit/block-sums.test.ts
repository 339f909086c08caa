import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import { denseView, type ModelView } from '#engine/model/views/view.ts'
import { type BlockSums, openFit, sumBlocks } from '#engine/pruning/fit/block-sums.ts'
import { type FittedShape, keptAt, planOf, type WidthPoints } from '#engine/pruning/fit/programme.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { columnNorms } from '#engine/pruning/scores/mlp-scores.ts'
import { descending } from '#engine/pruning/selection.ts'
import { openReference, recordedRun } from '../running.ts'

const open = openReference('stories260k')
const shapes = [
  { widths: [80, 100, 172, 60, 120], removed: [2, 3] },
  { widths: [100, 100, 90, 172, 172], removed: [4] },
]

/** By falling score: odd neurons first. */
const pointsOf = (count: number, width: number) => ({
  base: 100,
  widths: [100],
  orders: Array.from({ length: count }, () => Array.from({ length: width }, (_, i) => (2 * i + 1) % (width + 1))),
})

async function valuesOf(tensors: StoredTensors | undefined): Promise<Record<string, number[]>> {
  const found: Record<string, number[]> = {}
  for (const block of shapes[0]?.widths.keys() ?? []) {
    const name = replacedName(block, 'down', 'weight')
    if (tensors?.tensors.has(name)) found[name] = [...(await tensors.readFloat32(name))]
  }
  return found
}

/** The repaired down projections of a shape, by their names in a plan. */
async function solve(view: ModelView, sums: BlockSums, points: WidthPoints, { widths, removed }: FittedShape) {
  const found: Record<string, number[]> = {}
  for (const [block, width] of widths.entries()) {
    const fit = await openFit(view, sums, block)
    const weight = fit.solve(keptAt(points, block, width), fit.takesOver && removed.includes(block + 1))
    if (weight) found[replacedName(block, 'down', 'weight')] = [...weight.dataSync()]
    weight?.dispose()
    fit.dispose()
  }
  return found
}

test('repairs shapes from sums as each is repaired alone at these ridges, with room for many windows at once or for one', async () => {
  const { model, calibration } = open()
  const windows = calibration.slice(0, 4)
  const points = pointsOf(model.spec.blocks.length, 172)
  const sums = await sumBlocks(denseView(model), windows, points.base, recordedRun())
  const narrow = await sumBlocks(denseView({ ...model, workspaceBytes: 1 }), windows, points.base, recordedRun())
  for (const shape of shapes) {
    const plan = planOf(model.spec, points, shape)
    const alone = await repairPlan({ view: denseView(model), plan, windows, kind: 'one-pass', run: recordedRun() })
    const ridges = shape.widths.map((_, block) => {
      const found = alone.projections.find((one) => one.block === block && one.projection === 'down')
      return found && found.after < found.before ? found.ridge : null
    })
    const atRidges = (from: BlockSums) => ({
      ...from,
      blocks: from.blocks.map(({ norms }, block) => ({ norms, ridge: ridges[block] ?? null })),
    })
    const own = await solve(denseView(model), atRidges(sums), points, shape)
    const expected = await valuesOf(alone.tensors)
    expect(Object.keys(own).length).toBeGreaterThan(3)
    expect(Object.keys(own)).toEqual(Object.keys(expected))
    for (const [name, values] of Object.entries(own)) {
      const difference = Math.max(...values.map((value, i) => Math.abs(value - at(expected[name] ?? [], i))))
      expect(difference).toBeLessThan(1e-4)
    }
    expect(await solve(denseView(model), atRidges(narrow), points, shape)).toEqual(own)
  }
})

test('scores neurons as 2SSP does', async () => {
  const { model, calibration } = open()
  const windows = calibration.slice(0, 4)
  const { blocks } = await sumBlocks(denseView(model), windows, 100, recordedRun())
  const requests = [{ site: 'neurons', norm: 'l2' }] as const
  const [expected] = (await columnNorms(denseView(model), windows, requests, {})).values()
  for (const [block, { norms }] of blocks.entries()) {
    for (const [neuron, norm] of norms.entries()) expect(Math.abs(norm / at(at(expected ?? [], block), neuron) - 1)).toBeLessThan(1e-5)
  }
})

test('repairs the base width with the steps, and leaves a block as it is if its fitted weights do no better', async () => {
  const { model, calibration } = open()
  const sums = await sumBlocks(denseView(model), calibration.slice(0, 4), 100, recordedRun())
  const byNorm = { base: 100, widths: [100], orders: sums.blocks.map(({ norms }) => descending(norms)) }
  const shape = { widths: sums.blocks.map(() => 100), removed: [] }
  const [stored, solved] = [await valuesOf(sums.tensors), await solve(denseView(model), sums, byNorm, shape)]
  expect(Object.keys(stored)).toEqual(Object.keys(solved))
  for (const [name, values] of Object.entries(stored)) {
    expect(Math.max(...values.map((value, i) => Math.abs(value - at(solved[name] ?? [], i))))).toBeLessThan(1e-4)
  }
  const blocks = sums.blocks.map((own, block) => ({ ...own, ridge: block === 1 ? null : own.ridge }))
  expect(Object.keys(await solve(denseView(model), { ...sums, blocks }, byNorm, shape))).not.toContain(replacedName(1, 'down', 'weight'))
})
