/**
 * Divergence from the dense model: `npm run bench -- divergence [model] [tokens] [runs]` compares plans that remove half of each MLP, and
 * one to three attentions, with the dense model on that many tokens of the bundled prose, and prints the seconds page by page.
 */
import { join } from 'node:path'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readData } from '#engine/data/read-data.ts'
import { summarize } from '#engine/evaluation/divergence/summary.ts'
import { makeTokenPage, pagesOf } from '#engine/evaluation/divergence/token-page.ts'
import { openModelTokenizer } from '#engine/model/kept-model.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { densePlan } from '#engine/pruning/plan.ts'

const [path = join(import.meta.dirname, '../../resources/sample-model'), tokens = '10000', count = '3'] = process.argv.slice(2)
const { name } = await openBackend('tensorflow')
const model = await openModel(path)
const tokenizer = await openModelTokenizer(model)
const sequenceLength = Math.min(512, model.spec.contextLength)
const data = { source: 'prose', sequenceLength, windows: Math.ceil(Number(tokens) / sequenceLength) }
const { windows } = await readData(model, tokenizer, data, 0, {})
const plans = Array.from({ length: Number(count) }, (_, run) => planOf(run + 1))
const subjects = plans.map((plan) => ({ plan, view: viewWithPlan(model, plan) }))
const total = windows.reduce((sum, { length }) => sum + length, 0)
console.log(`${model.name} on ${name}: ${total} tokens against ${subjects.length} runs`)

const start = performance.now()
const pages = []
for (const [page, group] of pagesOf(windows).entries()) {
  pages.push(await makeTokenPage({ view: denseView(model), subjects, tokenizer, signal: new AbortController().signal }, page, group))
  console.log(`page ${page}, ${group.ids.length} tokens: ${seconds()} s`)
}
const { runs } = summarize(
  pages,
  plans.map((_, run) => ({ id: `run-${run}`, name: `run ${run + 1}`, method: '2ssp', reached: null })),
)
for (const { run, numbers } of runs) console.log(`${run.name}: mean divergence ${numbers.mean.value.toFixed(4)}`)
console.log(`all of it: ${seconds()} s`)
for (const { view } of subjects) view.dispose()
await model.close()

function seconds(): string {
  return ((performance.now() - start) / 1000).toFixed(1)
}

/** Removes every second neuron of each MLP, and some of the last attentions except the very last. */
function planOf(attentions: number): Plan {
  const last = model.spec.blocks.length - 1
  return {
    blocks: densePlan(model.spec).blocks.map((block, index) => ({
      attention: index < last && index >= last - attentions ? 'removed' : block.attention,
      mlp: { kept: Array.from({ length: Math.ceil((model.spec.blocks[index]?.width ?? 0) / 2) }, (_, neuron) => 2 * neuron) },
    })),
  }
}
