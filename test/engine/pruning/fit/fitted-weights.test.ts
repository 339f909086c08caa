import { expect, test } from 'vitest'
import { at } from '#contract/at.ts'
import type { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { replacedName } from '#engine/model/views/plan-tensors.ts'
import { denseView } from '#engine/model/views/view.ts'
import { weightsOfShapes } from '#engine/pruning/fit/fitted-weights.ts'
import { planOf } from '#engine/pruning/fit/prices.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
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

test('repairs several shapes in one pass as each is repaired alone, with room for many windows at once or for one', async () => {
  const { model, calibration } = open()
  const windows = calibration.slice(0, 4)
  const points = pointsOf(model.spec.blocks.length, 172)
  const together = await weightsOfShapes(denseView(model), windows, points, shapes, recordedRun())
  const narrow = await weightsOfShapes(denseView({ ...model, workspaceBytes: 1 }), windows, points, shapes, recordedRun())
  for (const [index, shape] of shapes.entries()) {
    const plan = planOf(model.spec, points, shape)
    const alone = await repairPlan({ view: denseView(model), plan, windows, kind: 'one-pass', run: recordedRun() })
    const [own, expected] = [await valuesOf(together[index]), await valuesOf(alone.tensors)]
    expect(Object.keys(own).length).toBeGreaterThan(3)
    expect(Object.keys(own)).toEqual(Object.keys(expected))
    for (const [name, values] of Object.entries(own)) {
      const difference = Math.max(...values.map((value, i) => Math.abs(value - at(expected[name] ?? [], i))))
      expect(difference).toBeLessThan(1e-4)
    }
    expect(await valuesOf(narrow[index])).toEqual(own)
  }
})
