import { mkdirSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { DataRequest } from '#contract/data/data-request.ts'
import { EspalierError } from '#contract/errors.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { readData } from '#engine/data/read-data.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { denseView, viewWithPlan } from '#engine/model/views/view.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { parseOptions } from '#engine/pruning/method.ts'
import { densePlan, reachedSparsity } from '#engine/pruning/plan.ts'
import { findMethod } from '#engine/pruning/registry.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { baseOf, FolderRun } from './folder-runs/folder-run.ts'

/**
 * What gates keep, as pruned: `npm run bench -- gates MODEL FOLDER [--method ID] [--sparsity S] [--seed N] [--options JSON] [--calibration TEXT,TEXT]
 * [--heldout NAME=TEXT,...] [--windows N] [--tokens N] [--at STEP,...]`. Steps are kept in FOLDER, so a killed measurement resumes.
 * Prints one line of JSON: perplexities on the first windows of each held-out text, what was reached, and seconds.
 */

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    method: { type: 'string', default: 'gates' },
    sparsity: { type: 'string', default: '0.5' },
    seed: { type: 'string', default: '0' },
    options: { type: 'string', default: '{}' },
    calibration: { type: 'string', default: 'mixed' },
    heldout: { type: 'string', default: 'prose=prose,code=code,spanish=spanish' },
    windows: { type: 'string', default: '6' },
    tokens: { type: 'string', default: '512' },
    precision: { type: 'string', default: 'float32' },
  },
})
const [path, folder] = positionals
if (!path || !folder) throw new EspalierError('usage', 'Give a model and a folder for the steps.')
mkdirSync(folder, { recursive: true })
const [sparsity, seed, sequenceLength] = [Number(values.sparsity), Number(values.seed), Number(values.tokens)]

await openBackend()
const model = await openModel(path)
const tokenizer = await openTokenizer(path)
const method = values.method === 'dense' ? undefined : findMethod(values.method)
const options = method ? parseOptions(method, JSON.parse(values.options)) : {}

class PrintingRun extends FolderRun {
  override progress(...[phase, done, total]: [string?, number?, number?]): void {
    process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${phase} ${done}/${total}\n`)
  }
  override emit(...[event]: [unknown?]): void {
    process.stderr.write(`${JSON.stringify(event).slice(0, 300)}\n`)
  }
}

const run = new PrintingRun(folder, await baseOf(model, values.precision), seed)
const sources = values.calibration.split(',')
const request: DataRequest = {
  source: sources[0] as string,
  sequenceLength,
  windows: method?.windows(options) ?? 1,
  ...(sources.length > 1 ? { mix: sources.map((source) => ({ source, share: 1 })) } : {}),
}
const { windows: calibration } = await readData(model, tokenizer, request, seed, {})
const view = denseView(model)
const { plan, notes } = method
  ? await method.plan({ view, calibration, budget: budgetFor(model.spec, { sparsity }), options, run })
  : { plan: densePlan(model.spec), notes: [] }
const pruned = viewWithPlan(model, plan)
const found: Record<string, number> = {}
for (const one of values.heldout.split(',')) {
  const [name = '', source = name] = one.split('=')
  const { windows } = await readData(model, tokenizer, { source, sequenceLength, windows: Number(values.windows) }, 0, {})
  found[name] = await run.step(
    { kind: { version: 1 }, label: 'perplexity', on: { plan, windows } },
    async () => (await perplexity(pruned, windows)).perplexity,
  )
  process.stderr.write(`${name} ${found[name]}\n`)
}
const shape = plan.blocks.map(
  ({ attention, mlp }) => `${attention === 'kept' ? 'a' : '-'}${mlp === 'removed' ? 0 : mlp.kept === 'all' ? 'all' : mlp.kept.length}`,
)
console.log(
  JSON.stringify({
    method: values.method,
    sparsity,
    seed,
    options,
    reached: reachedSparsity(model.spec, plan),
    perplexity: Object.fromEntries(Object.entries(found).map(([name, value]) => [name, Number(value.toFixed(1))])),
    seconds: Math.round(run.seconds),
    shape: shape.join(' '),
    notes,
  }),
)
pruned.dispose()
await model.close()
