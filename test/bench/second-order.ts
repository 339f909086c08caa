/**
 * Neurons chosen by second order instead of 2SSP's activation norms:
 *
 *   npm run bench -- second-order MODEL CALIBRATION TEST FOLDER [SEED]
 *
 * In each MLP the neuron goes without which the output changes least when the others take over for it, |W_j|^2 / (H^-1)_jj with H = X'X of
 * 32 calibration windows; the others are updated, and so on down to 2SSP's width (ZipLM, arXiv 2302.04089). The attention that goes is
 * 2SSP's at 50 %, whose steps are found in FOLDER when `repair.ts` was there. Prints perplexities of both choices, as pruned and repaired.
 */
import { argv } from 'node:process'
import { openBackend } from '#engine/backend/backend.ts'
import { runWindows } from '#engine/model/forward.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { blockOf, isAttention, mlpOf } from '#engine/model/weights/weights.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { addOuterProducts } from '#engine/pruning/components/covariance.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { baseOf, FolderRun } from './folder-runs/folder-run.ts'
import { perplexitiesOf, readRepairText, readText } from './folder-runs/repair-texts.ts'

/** Added to the diagonal of H, as a share of its mean. */
const damping = 0.01
const [modelPath = '', calibrationPath = '', testPath = '', folder = '', seedText = '0'] = argv.slice(2)
const seed = Number(seedText)

/** (H + damping)^-1 of a symmetric positive matrix [size, size], in place, by Gauss-Jordan elimination. */
function invert(matrix: Float64Array, size: number): void {
  let mean = 0
  for (let i = 0; i < size; i++) mean += at(matrix, i * size + i) / size
  for (let i = 0; i < size; i++) matrix[i * size + i] = at(matrix, i * size + i) + damping * mean
  for (let pivot = 0; pivot < size; pivot++) {
    const own = at(matrix, pivot * size + pivot)
    const row = matrix.slice(pivot * size, (pivot + 1) * size).map((value) => value / own)
    row[pivot] = 1 / own
    for (let i = 0; i < size; i++) {
      if (i === pivot) continue
      const factor = at(matrix, i * size + pivot)
      matrix[i * size + pivot] = 0
      addTimes(matrix, i * size, row, 0, -factor, size)
    }
    matrix.set(row, pivot * size)
  }
}

/** The neurons that stay: removes `size - count` one by one, updating weights [D, size] and the inverse [size, size] in place. */
function selectBySecondOrder(inverse: Float64Array, weights: Float64Array, size: number, count: number): number[] {
  const kept = Array.from({ length: size }, (_, neuron) => neuron)
  const rows = weights.length / size
  while (kept.length > count) {
    const norms = new Float64Array(size)
    for (let i = 0; i < weights.length; i++) norms[i % size] = at(norms, i % size) + at(weights, i) ** 2
    const costOf = (neuron: number) => at(norms, neuron) / at(inverse, neuron * size + neuron)
    const least = kept.reduce((best, neuron) => (costOf(neuron) < costOf(best) ? neuron : best))
    const row = inverse.slice(least * size, (least + 1) * size)
    const own = at(row, least)
    for (let i = 0; i < rows; i++) addTimes(weights, i * size, row, 0, -at(weights, i * size + least) / own, size)
    for (const neuron of kept) addTimes(inverse, neuron * size, row, 0, -at(row, neuron) / own, size)
    kept.splice(kept.indexOf(least), 1)
  }
  return kept
}

/** a[from ...] += factor * b[start ...], `count` numbers. */
function addTimes(a: Float64Array, from: number, b: Float64Array, start: number, factor: number, count: number): void {
  for (let i = 0; i < count; i++) a[from + i] = at(a, from + i) + factor * at(b, start + i)
}

const at = (array: ArrayLike<number>, index: number): number => array[index] as number

await openBackend()
const model = await openModel(modelPath)
const base = await baseOf(model)
const view = denseView(model)
const options = twoStage.options.parse({})
const calibration = await readText(model, calibrationPath, options.windows, seed)
const budget = budgetFor(model.spec, { sparsity: 0.5 })
const { plan } = await twoStage.plan({ view, calibration, budget, options, run: new FolderRun(folder, base, seed) })

const sums = model.spec.blocks.map(({ width }) => new Float64Array(width * width))
await runWindows(view, calibration, {
  observe(_, part, { inner }) {
    const block = blockOf(part)
    if (!isAttention(part)) addOuterProducts(sums[block] as Float64Array, inner, model.spec.blocks[block]?.width ?? 0)
  },
})
const run = new FolderRun(folder, base, seed)
const blocks: typeof plan.blocks = []
for (const [block, own] of plan.blocks.entries()) {
  const size = model.spec.blocks[block]?.width ?? 0
  const count = own.mlp === 'removed' || own.mlp.kept === 'all' ? size : own.mlp.kept.length
  const kept = await run.step({ kind: { version: 1 }, label: `neurons of block ${block}`, on: { calibration, block, count } }, async () => {
    const part = await view.lease(mlpOf(block))
    const weights = Float64Array.from((part.mlp as NonNullable<typeof part.mlp>).down.dataSync())
    view.release(mlpOf(block), part)
    invert(sums[block] as Float64Array, size)
    return selectBySecondOrder(sums[block] as Float64Array, weights, size, count)
  })
  const before = own.mlp === 'removed' || own.mlp.kept === 'all' ? [] : own.mlp.kept
  console.error(`block ${block}: ${kept.filter((neuron) => before.includes(neuron)).length} of ${count} neurons as by activation norms`)
  blocks.push({ ...own, mlp: { kept } })
}
const selections = [
  { name: 'activation norms', chosen: plan, run: new FolderRun(folder, base, seed) },
  { name: 'second order', chosen: { blocks }, run },
]
const windows = await readRepairText(model, calibrationPath, seed)
for (const { name, chosen, run } of selections) {
  const repaired = await repairPlan({ view, plan: chosen, windows, kind: 'one-pass', run })
  const views = { 'as pruned': viewWithPlan(model, chosen), 'one pass': viewWithPlan(model, repaired.plan, repaired.tensors) }
  for (const [state, own] of Object.entries(views)) {
    console.log(`${name}, ${state}:`, JSON.stringify(await perplexitiesOf(own, testPath)))
    own.dispose()
  }
}
await model.close()
