/**
 * What screening saves and costs: `node test/bench/screening.ts [MODEL WINDOWS.json] [rounds] [finalists]` runs 2SSP's second stage exactly
 * and with screening, and says how many choices are equal. Without a model it takes the one of the comparison.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openBackend } from '#engine/backend/backend.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/view.ts'
import { GreedySearch } from '#engine/pruning/greedy.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { densePlan, variantOf, without } from '#engine/pruning/plan.ts'
import { cacheFolder } from '../../src-main/setup/places.mjs'
import { makeModel, makeWindows, smolShape } from './bench-model.ts'

const [path, windowsFile, rounds = '2', finalists = '4'] = process.argv.slice(2)
const run = { signal: new AbortController().signal, count: () => undefined } as unknown as MethodRun

await openBackend()
const model = await openModel(path || (await makeModel(join(cacheFolder(), 'bench'), smolShape)))
const lists = windowsFile ? (JSON.parse(readFileSync(windowsFile, 'utf8')) as number[][]) : makeWindows(1, 2048, model.spec.vocabulary)
const windows = lists.slice(0, 1).map((ids) => Int32Array.from(ids))

let equal = 0
const seconds = [0, 0]
const view = denseView(model)
const searches = [0, Number(finalists)].map((screening) => new GreedySearch(view, windows, { screening, run }))
let base = variantOf(densePlan(view.spec))
for (let round = 1; round <= Number(rounds); round++) {
  const candidates = [...base.keys()]
    .filter((part) => part % 2 === 0 && base[part] === 0)
    .map((part) => ({ block: part / 2, parts: [part] }))
  const blocks: number[] = []
  for (const [index, search] of searches.entries()) {
    const start = performance.now()
    blocks.push((await search.decide(base, candidates, round, 'attention')).block)
    seconds[index] = (seconds[index] ?? 0) + (performance.now() - start) / 1000
  }
  if (blocks[0] === blocks[1]) equal++
  // Both go on from the exact choice, so that each round is a question of its own.
  base = without(base, [2 * (blocks[0] as number)])
}
for (const search of searches) search.dispose()
await model.close()
const [exact, screened] = seconds as [number, number]
console.log(
  `${equal} of ${rounds} choices equal; ${exact.toFixed(1)} s exact, ${screened.toFixed(1)} s with ${finalists} finalists: ${(exact / screened).toFixed(2)} times as fast`,
)
