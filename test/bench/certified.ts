/**
 * Certified choices against float32's: `node test/bench/certified.ts MODEL ROUNDS [TEXT [LENGTH]]`. Each round removes the attention or MLP that
 * perplexity misses least, in turn, by a mixed and by a float32 search that goes the same way; prints how many of the choices were equal,
 * how many candidates were scored again, and the processor time of both. A window further into the text begins when the model is used up.
 */
import { openBackend } from '#engine/backend/backend.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openModel, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView } from '#engine/model/view.ts'
import { blockOf, isAttention } from '#engine/model/weights.ts'
import { GreedySearch } from '#engine/pruning/greedy.ts'
import type { MethodRun } from '#engine/pruning/method.ts'
import { densePlan, variantOf, without } from '#engine/pruning/plan.ts'
import { readData } from '#engine/run-data.ts'

const [path = '', wanted = '20', source = 'mixed', length = '512'] = process.argv.slice(2)
const backend = await openBackend('tensorflow')
const model = await openModel(path)
const run = { signal: new AbortController().signal, count: () => undefined } as unknown as MethodRun
const { windows } = await readData(model, await openModelTokenizer(model), { source, sequenceLength: Number(length), windows: 16 }, 0, {})
console.log(`${model.name}, windows of ${length} tokens of ${source}; ${backend.title}`)

const kinds = ['attention', 'mlp'] as const
const total = { rounds: 0, equal: 0, candidates: 0, rescored: 0 }
for (const window of windows) {
  if (total.rounds < Number(wanted)) await compare(window)
}
console.log(JSON.stringify(total))
await model.close()

async function compare(window: Int32Array): Promise<void> {
  const [exact, mixed] = (['float32', 'mixed'] as const).map(
    (precision) => new GreedySearch(denseView(withProducts(model, productsFor(precision))), [window], { screening: 0, lazy: 0, run }),
  ) as [GreedySearch, GreedySearch]
  let base = variantOf(densePlan(model.spec))
  const earlier = []
  // The last few have too little left to compare.
  for (let round = 1; round <= base.length - 8 && total.rounds < Number(wanted); round++) {
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
