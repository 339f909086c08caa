import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import * as tf from '@tensorflow/tfjs-core'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { saveModel } from '#engine/export/save.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'
import { breathe } from '#engine/model/walk.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { twoStage } from '#engine/pruning/methods/2ssp.ts'
import { reap } from '#engine/pruning/methods/reap.ts'
import { densePlan, variantOf } from '#engine/pruning/plan.ts'
import { repairPlan } from '#engine/pruning/repair/repair.ts'
import { columnNorms } from '#engine/pruning/scores/mlp-scores.ts'
import { GreedySearch } from '#engine/pruning/search/greedy.ts'
import { VariantRanking } from '#engine/pruning/search/variant-ranking.ts'
import { cacheFolder } from '../../src-main/runtime/places.mjs'
import { makeMixture, makeModel, makeWindows, type Shape, smolShape } from '../fixtures/bench-model.ts'
import { storeTensors } from '../fixtures/store-tensors.ts'

/**
 * Models larger than their memory: `npm run bench -- streaming small` prunes a 1 GB model in 250 MB and compares the plan with that of
 * the resident model; `repair` does the same with a repair in order; `large` takes a model of 7B shape in 4 GB; `experts` prunes, saves and reopens a mixture of 8.9 GB in 3 GB; `flat` makes a million runtime operations and watches memory.
 */

const home = join(cacheFolder(), 'bench')
const smallShape: Shape = { ...smolShape, blocks: 64, vocabulary: 8192 }
const [task = 'small', argument] = process.argv.slice(2)
const run: MethodRun = {
  seed: 0,
  signal: new AbortController().signal,
  step: async (_, compute) => compute(),
  tensorStep: async (_, compute) => storeTensors(await compute()),
  progress: () => undefined,
  emit: () => undefined,
  count: () => undefined,
}
const peak = () => `${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`
const windowsOf = (count: number, tokens: number, { vocabulary }: Pick<Shape, 'vocabulary'>) =>
  makeWindows(count, tokens, vocabulary).map((ids) => Int32Array.from(ids))

mkdirSync(home, { recursive: true })
if (task === 'small') compareBudgets('prune')
else if (task === 'repair') compareBudgets('repair within')
else if (task === 'repair within') await repairWithin(Number(argument))
else if (task === 'prune') await pruneWithin(Number(argument))
else if (task === 'large') await walkLarge(Number(argument ?? 32))
else if (task === 'experts') await pruneExperts(Number(argument ?? 7))
else if (task === 'flat') await countOperations(Number(argument ?? 1e6))

/** Each budget in a separate process, so that each has its own peak. */
function compareBudgets(child: 'prune' | 'repair within'): void {
  const plans = [250e6, 20e9].map((bytes) => {
    const { stdout } = spawnSync(process.execPath, [import.meta.filename, child, String(bytes)], { encoding: 'utf8', maxBuffer: 2 ** 28 })
    const { plan, ...figures } = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Record<string, unknown>
    console.log(figures)
    return plan
  })
  console.log(isDeepStrictEqual(plans[0], plans[1]) && plans[0] ? 'The plans are equal.' : 'THE PLANS DIFFER.')
}

async function pruneWithin(bytes: number): Promise<void> {
  await openBackend()
  const path = await makeModel(home, smallShape)
  const model = await openModel(path, bytes)
  const start = performance.now()
  const options = twoStage.options.parse({ windows: 4, attention: 1 })
  const { plan } = await twoStage.plan({
    view: denseView(model),
    calibration: windowsOf(4, 256, smallShape),
    budget: budgetFor(model.spec, { sparsity: 0.3 }),
    options,
    run,
  })
  const seconds = (performance.now() - start) / 1000
  const weights = [...model.checkpoint.tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0)
  console.log(
    JSON.stringify({
      weights,
      budget: bytes,
      residency: model.store.residency,
      seconds,
      waiting: model.store.secondsWaiting / seconds,
      peak: peak(),
      plan,
    }),
  )
  await model.close()
}

/** Removes half of every MLP and the attention of block 3; compares tensor hashes instead of the plan. */
async function repairWithin(bytes: number): Promise<void> {
  await openBackend()
  const model = await openModel(await makeModel(home, smallShape), bytes)
  const view = denseView(model)
  const kept = Array.from({ length: smallShape.intermediate / 2 }, (_, i) => 2 * i)
  const plan: Plan = { blocks: view.spec.blocks.map((_, block) => ({ attention: block === 3 ? 'removed' : 'kept', mlp: { kept } })) }
  const start = performance.now()
  const { tensors, projections } = await repairPlan({ view, plan, windows: windowsOf(6, 256, smallShape), kind: 'in-order', run })
  const seconds = (performance.now() - start) / 1000
  const weights = [...model.checkpoint.tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0)
  const repaired = { hashes: tensors?.files.map(({ sha256 }) => sha256), projections }
  console.log(
    JSON.stringify({
      weights,
      budget: bytes,
      residency: model.store.residency,
      seconds,
      replaced: tensors?.tensors.size,
      peak: peak(),
      plan: repaired,
    }),
  )
  await model.close()
}

async function walkLarge(blocks: number): Promise<void> {
  await openBackend()
  const shape: Shape = { blocks, hidden: 4096, intermediate: 11008, heads: 32, keyValueHeads: 32, vocabulary: 32000, dtype: 'BF16' }
  const path = await makeModel(home, shape)
  const model = await openModel(path, 4 * 2 ** 30)
  const view = denseView(model)
  const windows = windowsOf(4, 256, shape)
  const report = (name: string, seconds: number, waited: number, passes: number) =>
    console.log(
      `${name}: ${seconds.toFixed(1)} s, ${(seconds / passes).toFixed(2)} s per block, ${((100 * waited) / seconds).toFixed(0)} % waiting for the disk, peak ${peak()}`,
    )
  const timed = async (name: string, passes: number, compute: () => Promise<unknown>) => {
    const [start, waited] = [performance.now(), model.store.secondsWaiting]
    await compute()
    report(name, (performance.now() - start) / 1000, model.store.secondsWaiting - waited, passes)
  }
  console.log(`${blocks} blocks, ${model.store.residency}`)
  await timed('Stage 1, 4 windows of 256', blocks, () => columnNorms(view, windows, [{ site: 'neurons', norm: 'l2' }], {}))
  const search = new GreedySearch(new VariantRanking(view, windows.slice(0, 1), {}), { lazy: 0, run })
  const candidates = Array.from({ length: blocks }, (_, block) => ({ block, parts: [2 * block] }))
  await timed('Stage 2, one round on a window of 256', blocks, () =>
    search.decide(variantOf(densePlan(view.spec)), candidates, { round: 1, kind: 'attention', earlier: [] }),
  )
  search.dispose()
  await model.close()
}

/** Removes a quarter of the experts with REAP. The first run also writes the model, so its peak is too high; run it again. */
async function pruneExperts(blocks: number): Promise<void> {
  await openBackend()
  const shape = { blocks, vocabulary: 49152 }
  const model = await openModel(await makeMixture(home, shape), 3e9)
  const start = performance.now()
  const report = (name: string) => {
    const seconds = (performance.now() - start) / 1000
    console.log(
      `${name}: ${seconds.toFixed(0)} s, of which ${model.store.secondsWaiting.toFixed(0)} s waiting for the disk, peak ${peak()}`,
    )
  }
  report(model.store.residency)
  const { plan } = await reap.plan({
    view: denseView(model),
    calibration: windowsOf(8, 512, shape),
    budget: budgetFor(model.spec, { experts: 0.25 }),
    options: reap.options.parse({ windows: 8 }),
    run,
  })
  report('Pruned')
  const folder = join(home, 'mixture-pruned')
  const request = { model, plan, method: 'reap', formats: ['exact'], folder, text: '', replace: true }
  const saved = await saveModel(request, { progress: () => undefined })
  report('Saved and opened again')
  console.log(saved.map(({ reload }) => reload))
  rmSync(folder, { recursive: true })
  await model.close()
}

async function countOperations(count: number): Promise<void> {
  await openBackend()
  const x = tf.randomUniform([32, 32])
  const used = () => process.memoryUsage().rss / 2 ** 20
  let afterWarmUp = 0
  for (let done = 0; done < count; done += 4) {
    tf.tidy(() => tf.sum(tf.exp(tf.add(tf.matMul(x as tf.Tensor2D, x as tf.Tensor2D), 1)))).dispose()
    // The runtime frees memory between turns of the event loop, as between the parts of a model.
    if (done % 48 === 0) await breathe()
    if (done === Math.floor(count / 40) * 4) afterWarmUp = used()
    if (done % Math.floor(count / 5) < 4) console.log(`${done} operations: ${used().toFixed(0)} MiB`)
  }
  console.log(`${count} operations: ${used().toFixed(0)} MiB, ${(used() - afterWarmUp).toFixed(0)} MiB more than after the first tenth`)
}
