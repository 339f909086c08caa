/**
 * Certified choices against float32's: `npm run bench -- certified MODEL ROUNDS [TEXT [LENGTH [units]]]`. Each round removes the attention or MLP that
 * perplexity misses least, in turn, by a mixed and by a float32 search that goes the same way; prints how many of the choices were equal,
 * how many candidates were scored again, and the processor time of both. A window further into the text begins when the model is used up.
 * With `units`, closer looks are products of split operands, as on matrix units. MODEL `reference`: each of the reference models on its recorded calibration windows.
 */
import { openBackend } from '#engine/backend/backend.ts'
import { readData } from '#engine/data/read-data.ts'
import type { Windows } from '#engine/data/windows.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { type Model, openModel, withProducts } from '#engine/model/model.ts'
import { productsFor, productsOnUnits } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/views/view.ts'
import { blockOf, isAttention } from '#engine/model/weights/weights.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { densePlan, variantOf, without } from '#engine/pruning/plan.ts'
import { GreedySearch } from '#engine/pruning/search/greedy.ts'
import { VariantRanking } from '#engine/pruning/search/variant-ranking.ts'
import { fullModels, referenceModel, referenceWindows, variedModels } from '../fixtures/reference.ts'

const [path = '', wanted = '20', source = 'mixed', length = '512', looks = ''] = process.argv.slice(2)
const products = looks === 'units' ? productsOnUnits : productsFor
const backend = await openBackend('tensorflow')
const run = { signal: new AbortController().signal, count: () => undefined } as unknown as MethodRun
const kinds = ['attention', 'mlp'] as const
const all = { rounds: 0, equal: 0, candidates: 0, rescored: 0 }
console.log(backend.title)
if (path === 'reference') {
  const windows = await referenceWindows('calibration')
  for (const name of [...fullModels, ...variedModels]) await compareOn(await openModel(await referenceModel(name)), windows)
  console.log(JSON.stringify(all))
} else {
  const model = await openModel(path)
  const options = { source, sequenceLength: Number(length), windows: 16 }
  await compareOn(model, (await readData(model, await openModelTokenizer(model), options, 0, {})).windows)
}

async function compareOn(model: Model, windows: Windows): Promise<void> {
  console.log(`${model.name}, windows of ${windows[0]?.length} tokens`)
  const total = { rounds: 0, equal: 0, candidates: 0, rescored: 0 }
  for (const window of windows) {
    if (total.rounds < Number(wanted)) await compare(model, window, total)
  }
  for (const key of ['rounds', 'equal', 'candidates', 'rescored'] as const) all[key] += total[key]
  console.log(JSON.stringify(total))
  await model.close()
}

async function compare(model: Model, window: Int32Array, total: typeof all): Promise<void> {
  const [exact, mixed] = (['float32', 'mixed'] as const).map(
    (precision) =>
      new GreedySearch(new VariantRanking(denseView(withProducts(model, products(precision))), [window], {}), { lazy: 0, run }),
  ) as [GreedySearch, GreedySearch]
  let base = variantOf(densePlan(model.spec))
  const earlier = []
  // The last rounds have too little left to compare.
  for (let round = 1; round <= base.length - 4 && total.rounds < Number(wanted); round++) {
    const kind = kinds[round % 2 === 1 ? 0 : 1]
    const parts = [...base.keys()].filter((part) => base[part] === 0 && isAttention(part) === (kind === 'attention'))
    const candidates = parts.map((part) => ({ block: blockOf(part), parts: [part] }))
    const start = process.cpuUsage()
    const own = await mixed.decide(base, candidates, { round, kind, earlier })
    const between = process.cpuUsage(start)
    const theirs = await exact.decide(base, candidates, { round, kind, earlier: [] })
    const after = process.cpuUsage(start)
    earlier.push(own)
    const seconds = [between, after].map(({ user, system }) => (user + system) / 1e6) as [number, number]
    total.rounds++
    total.equal += Number(own.block === theirs.block)
    total.candidates += candidates.length
    total.rescored += own.certified?.rescored ?? 0
    console.log(
      `${total.rounds}: ${kind} ${theirs.block}${own.block === theirs.block ? '' : ` but mixed chose ${own.block}`}, ${own.certified?.rescored} of ${candidates.length} scored again, ${seconds[0].toFixed(2)} s of processor time against ${(seconds[1] - seconds[0]).toFixed(2)}`,
    )
    base = without(
      base,
      parts.filter((part) => blockOf(part) === theirs.block),
    )
  }
  exact.dispose()
  mixed.dispose()
}
