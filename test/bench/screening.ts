/**
 * What screening saves and costs: `node test/bench/screening.ts [rounds] [finalists] [MODEL TEXT]` runs 2SSP's second stage exactly and
 * with screening, and says how many choices are equal. Without a model it takes the one of the comparison and one window of 2048 tokens;
 * of a text, four windows of 256, each a search of its own.
 */
import { join } from 'node:path'
import { openBackend } from '#engine/backend/backend.ts'
import { readWindows } from '#engine/data/windows.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView } from '#engine/model/view.ts'
import { GreedySearch } from '#engine/pruning/greedy.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { densePlan, variantOf, without } from '#engine/pruning/plan.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { cacheFolder } from '../../src-main/setup/places.mjs'
import { makeModel, makeWindows, smolShape } from './bench-model.ts'

const [rounds = '2', finalists = '4', path, text] = process.argv.slice(2)
const run = { signal: new AbortController().signal, count: () => undefined } as unknown as MethodRun

await openBackend()
const model = await openModel(path ?? (await makeModel(join(cacheFolder(), 'bench'), smolShape)))
const view = denseView(model)
let equal = 0
const seconds: [number, number] = [0, 0]
const windows = await windowsOf(path, text)
for (const window of windows) await searchBothWays(window)
await model.close()
const [exact, screened] = seconds
console.log(
  `${equal} of ${windows.length * Number(rounds)} choices equal; ${exact.toFixed(1)} s exact, ${screened.toFixed(1)} s with ${finalists} finalists: ${(exact / screened).toFixed(2)} times as fast`,
)

async function windowsOf(folder: string | undefined, file: string | undefined): Promise<readonly Int32Array[]> {
  if (!folder || !file) return makeWindows(1, 2048, model.spec.vocabulary).map((ids) => Int32Array.from(ids))
  return (await readWindows(file, await openTokenizer(folder), { sequenceLength: 256, maxWindows: 4 })).windows
}

/** Both go on from the exact choice, so that each round is a question of its own. */
async function searchBothWays(window: Int32Array): Promise<void> {
  const searches = [0, Number(finalists)].map((screening) => new GreedySearch(view, [window], { screening, lazy: 0, run }))
  let base = variantOf(densePlan(view.spec))
  for (let round = 1; round <= Number(rounds); round++) {
    const candidates = [...base.keys()]
      .filter((part) => part % 2 === 0 && base[part] === 0)
      .map((part) => ({ block: part / 2, parts: [part] }))
    const blocks: number[] = []
    for (const [index, search] of searches.entries()) {
      const start = performance.now()
      blocks.push((await search.decide(base, candidates, { round, kind: 'attention', earlier: [] })).block)
      seconds[index as 0 | 1] += (performance.now() - start) / 1000
    }
    if (blocks[0] === blocks[1]) equal++
    base = without(base, [2 * (blocks[0] as number)])
  }
  for (const search of searches) search.dispose()
}
