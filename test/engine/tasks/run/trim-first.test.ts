import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { RunDocument } from '#contract/runs/run.ts'
import type { RunRequest } from '#contract/runs/run-request.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { formats } from '#engine/export/index.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { narrowBlock } from '#engine/pruning/methods/2ssp.ts'
import { densePlan, reachedSparsity } from '#engine/pruning/plan.ts'
import { checkRequests } from '#engine/tasks/check-request.ts'
import { executeRun } from '#engine/tasks/run/run.ts'
import { withRows } from '#engine/tasks/run/trim-first.ts'
import { referenceModel } from '../../../fixtures/reference.ts'
import { hostIn } from '../../../fixtures/run-host.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'
import { logitsOf } from '../../model/logits.ts'
import { batchOf, denseStates, gradientsOf, openTraining } from '../../pruning/recovery/training.ts'

const home = scratchFolder('trim-first')
const text = join(home, 'text.txt')
let model: string
beforeAll(async () => {
  await openBackend('tensorflow')
  model = await referenceModel('stories260k')
  writeFileSync(text, readFileSync(join(import.meta.dirname, '../../../fixtures/texts/wikitext-2-valid.txt'), 'utf8').slice(0, 60_000))
})

const data = (windows?: number) => ({ source: text, sequenceLength: 48, ...(windows ? { windows } : {}) })
const request = (changes: Partial<RunRequest> = {}): RunRequest => ({
  model,
  method: '2ssp',
  amount: { sparsity: 0.3 },
  options: { windows: 4 },
  seed: 0,
  calibration: data(),
  vocabulary: { rows: 400 },
  measures: [],
  backend: 'tensorflow',
  ...changes,
})
const run = (asked: RunRequest): Promise<RunDocument> => executeRun(asked, hostIn(home))

test('what follows the removal of rows is what a saved model without them gets', async () => {
  const treated = {
    repair: { kind: 'in-order' as const, calibration: data(8) },
    recover: { amount: { tokens: 16 * 48 }, text: { source: text, sequenceLength: 48 } },
  }
  const first = await run(request({ ...treated, measures: [{ kind: 'perplexity', data: data(12), name: 'text' }] }))
  const { vocabulary, ...blocks } = first.plan
  expect(vocabulary?.kept).toHaveLength(400)

  const dense = await openModel(model)
  const folder = join(home, 'saved')
  await formats.exact.write({ model: dense, plan: { ...densePlan(dense.spec), vocabulary }, method: 'vocabulary', folder })
  const { spec } = dense
  await dense.close()
  const { vocabulary: _, ...others } = request({
    ...treated,
    model: folder,
    measures: [{ kind: 'perplexity', data: data(12), name: 'text' }],
  })
  const saved = await run(others)
  expect(blocks.blocks).toEqual(saved.plan.blocks)
  expect(first.repair?.blocks.map(({ after }) => after)).toEqual(saved.repair?.blocks.map(({ after }) => after))
  expect(first.recovery?.text.hash).toBe(saved.recovery?.text.hash)
  expect(first.recovery?.points.length).toBeGreaterThan(1)
  expect(first.recovery?.points).toEqual(saved.recovery?.points)

  // Reached is the share of the block stack, as was asked for; the notes say both shares.
  expect(first.sparsity.reached).toBeCloseTo(saved.sparsity.reached, 12)
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`
  const removed = `${percent(reachedSparsity(spec, first.plan))} of all parameters, ${percent(first.sparsity.reached)} of the block stack's`
  expect(first.notes.join(' ')).toContain(`${removed} (400 of 512 tokens are left) were removed.`)
  const measured = first.measures.find(({ name }) => name === 'bits per byte')
  const perplexity = first.measures.find(({ name }) => name === 'perplexity')
  expect(measured?.value).toBeGreaterThan(0)
  expect(perplexity?.on?.vocabulary).toBeDefined()
})

test('recovery learns from the dense distribution over the kept tokens, renormalised', async () => {
  const opened = await openModel(model)
  const kept = Array.from({ length: 300 }, (_, row) => row + (row > 150 ? 90 : 0))
  const left = withRows(opened, kept)
  const dense = densePlan(opened.spec)
  const plan = { blocks: dense.blocks.map((block, index) => narrowBlock(opened.spec, index, block, 100)) }
  const windows = [0, 1].map((seed) => Int32Array.from({ length: 24 }, (_, place) => (place * (7 + seed) + 3 * seed) % 300))
  const training = await openTraining(left, plan)
  const { loss } = await gradientsOf(training.pass, batchOf(windows, await denseStates(left, windows)))
  training.dispose()

  // The same by hand: both models with the whole vocabulary, of whose logits only those of kept tokens count.
  let [sum, rows] = [0, 0]
  const [whole, pruned] = [denseView(opened), viewWithPlan(opened, plan)]
  for (const window of windows) {
    const ids = window.map((id) => kept[id] as number)
    const [teacher, student] = [await logitsOf(whole, ids), await logitsOf(pruned, ids)]
    for (const [row, own] of teacher.entries()) {
      const [p, q] = [own, student[row] as number[]].map((logits) => logSoftmax(kept.map((id) => logits[id] as number)))
      sum += (p as number[]).reduce((total, value, at) => total + Math.exp(value) * (value - ((q as number[])[at] as number)), 0)
      rows++
    }
  }
  pruned.dispose()
  left.vocabulary.dispose()
  await opened.close()
  expect(loss).toBeGreaterThan(0.01)
  expect(loss).toBeCloseTo(sum / rows, 4)
})

function logSoftmax(logits: readonly number[]): number[] {
  const largest = Math.max(...logits)
  const total = Math.log(logits.reduce((sum, value) => sum + Math.exp(value - largest), 0))
  return logits.map((value) => value - largest - total)
}

test('a size is that of the file with fewer rows', async () => {
  const size = ({ measures }: RunDocument) => measures.find(({ name }) => name === 'size')?.value as number
  const rows = await run(request({ amount: { sparsity: 0.1 }, weights: 'F16' }))
  const bytes = Math.round(size(rows) * 0.93)
  const own = await run(request({ amount: { bytes, format: 'gguf', type: 'F16' }, weights: 'F16' }))
  expect(own.plan.vocabulary?.kept).toEqual(rows.plan.vocabulary?.kept)
  expect(own.budget?.real).toBeLessThanOrEqual(bytes)
  expect(own.budget?.real).toBeGreaterThan(0.95 * bytes)
  expect(own.sparsity.reached).toBeGreaterThan(rows.sparsity.reached)
})

test('ready windows of token ids are read in the kept tokens', async () => {
  const ids = join(home, 'ids.json')
  writeFileSync(
    ids,
    JSON.stringify(Array.from({ length: 20 }, (_, row) => Array.from({ length: 48 }, (_, i) => 3 + ((7 * row + 13 * i) % 500)))),
  )
  const own = await run(request({ calibration: { source: ids, sequenceLength: 48 } }))
  expect(own.plan.vocabulary?.kept).toHaveLength(400)
  expect(own.sparsity.reached).toBeGreaterThan(0.2)
})

test('is foreseen before it runs, and refused where it cannot be done', async () => {
  const [whole] = await checkRequests([(({ vocabulary: _, ...rest }) => rest)(request())])
  const [less] = await checkRequests([request()])
  const bytes = (preview: typeof less) => preview?.formats.find(({ format }) => format === 'stock')?.bytes as number
  expect(less?.problems).toEqual([])
  expect(less?.reached).toBe(whole?.reached)
  // 112 rows of 64 numbers in the type of the checkpoint.
  expect(bytes(whole) - bytes(less)).toBeGreaterThan(112 * 64)
  const problems = async (changes: Partial<RunRequest>) => (await checkRequests([request(changes)])).flatMap((one) => one.problems)
  expect((await problems({ vocabulary: { rows: 900 } }))[0]?.message).toMatch(/900 rows cannot be kept: the model has 512/)
  expect((await problems({ method: 'slicegpt', options: {} }))[0]?.message).toMatch(/SliceGPT rotates the embedding/)
  expect((await problems({ method: 'dense', options: {} }))[0]?.message).toMatch(/Choose one, or the method Vocabulary/)
  expect((await problems({ method: 'vocabulary', options: {} }))[0]?.message).toMatch(/Choose one, or the method Vocabulary/)
  await expect(run(request({ vocabulary: { rows: 100 } }))).rejects.toThrow(/100 rows are fewer than the .* that always stay/)
})
