import { expect, test } from 'vitest'
import { StoredTensors } from '#engine/checkpoint/stored-tensors.ts'
import { denseView } from '#engine/model/views/view.ts'
import { measureTable } from '#engine/pruning/fit/divergences.ts'
import { openReference, recordedRun } from '../running.ts'

const open = openReference('stories260k')

/** The table from steps that were found done: 1 nat at the base, and what each block's step says. */
function tableOf(found: Readonly<Record<string, number>>) {
  const { model, calibration } = open()
  const { blocks } = model.spec
  const points = { base: 8, widths: [4, 8], orders: blocks.map(({ width }) => Array.from({ length: width }, (_, neuron) => neuron)) }
  const view = denseView(model)
  const sums = { blocks: blocks.map(() => ({ norms: [], ridge: null })), tensors: StoredTensors.join() }
  const run = { ...recordedRun(), step: async <T>({ label }: { label: string }) => (/block/.test(label) ? found : 1) as T }
  return measureTable(view, calibration.slice(0, 1), sums, points, run)
}

test('takes what the steps measured, against the base', async () => {
  const { mlp, attention } = await tableOf({ 4: 1.5, attention: 1.25 })
  expect(mlp.every((curve) => curve[0] === 0.5 && curve[1] === 0)).toBe(true)
  expect(attention).toEqual([0, ...mlp.slice(1).map(() => 0.25)])
})

test.each([
  ['of a width', { attention: 1.25 }, /no divergence of block 0 with 4 neurons/],
  ['of attention', { 4: 1.5 }, /no divergence of block 0 without the next attention/],
])('is refused without the divergence %s, which would cost nothing', async (_, found, message) => {
  await expect(tableOf(found)).rejects.toThrow(message)
})
