/**
 * Answers token by token: `npm run bench -- decode [model] [--tokens N] [--precision NAME] [--only one]` prints tokens a second of one
 * sequence, of five together and of five columns with plans of their own, the first token after a prompt of 2,016, and a whole pass over as
 * many, line by line as they come. With `--only one` it prints the first of these and ends.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Plan } from '#contract/pruning/plan.ts'
import type { Precision } from '#contract/pruning/precision.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { topIndices } from '#engine/evaluation/generation/sampling.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { openModel, withProducts } from '#engine/model/model.ts'
import { productsFor } from '#engine/model/precision.ts'
import { denseView, type ModelView, openView } from '#engine/model/views/view.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '3' },
    precision: { type: 'string', default: 'float32' },
    only: { type: 'string' },
  },
})
const [path = join(import.meta.dirname, '../../resources/sample-model')] = positionals
const tokens = Number(flags.tokens)
const { title } = await openBackend('tensorflow')
const model = withProducts(await openModel(path), productsFor(flags.precision as Precision))
const view = denseView(model)
const prompt = (count: number) => Int32Array.from({ length: count }, (_, i) => (i * 37 + 11) % Math.min(4000, model.spec.vocabulary))
if (flags.only !== 'one') console.log(`${model.name} in ${flags.precision}: ${title}`)

await decode([view], 1, 2)
if (flags.only === 'one') console.log(await decode([view], 1, tokens))
else await measureAll()
await model.close()

async function measureAll(): Promise<void> {
  const columns = await Promise.all([null, ...[0.75, 0.625, 0.5, 0.25].map(planOf)].map((plan) => openView(model, plan)))
  await decode(columns, 1, 2)
  for (let round = 1; round <= Number(flags.rounds); round++) {
    const one = await decode([view], 1, tokens)
    const five = await decode([view], 5, tokens)
    const apart = await decode(columns, 1, tokens)
    const rates = [`one ${one.toFixed(1)}`, `five together ${five.toFixed(1)} (${(five / one).toFixed(2)})`]
    console.log(
      `round ${round}, tokens/s: ${rates.join(', ')}, five columns with other plans ${apart.toFixed(1)} (${(apart / one).toFixed(2)})`,
    )
  }
  for (const column of columns) column.dispose()
  const long = Math.min(2016, model.spec.contextLength - 1)
  for (let round = 1; round <= Number(flags.rounds); round++) {
    const first = await secondsOf(() => feedOnce(prompt(long)))
    const whole = await secondsOf(() => perplexity(view, [prompt(long)]))
    console.log(
      `round ${round}: first token after ${long} ${first.toFixed(3)} s, a whole pass ${whole.toFixed(3)} s, ratio ${(first / whole).toFixed(2)}`,
    )
  }
}

/** A plan like 2SSP's: a share of the neurons of each MLP, every eighth attention removed. */
function planOf(share: number): Plan {
  const dense = removeParts(
    densePlan(model.spec),
    model.spec.blocks.flatMap((_, block) => (block % 8 === 3 ? [2 * block] : [])),
  )
  const blocks = dense.blocks.map((block, index) => {
    const width = model.spec.blocks[index]?.width ?? 0
    const kept = Array.from({ length: width }, (_, neuron) => neuron).filter((neuron) => (neuron * 7919 + index) % 1000 < 1000 * share)
    return { ...block, mlp: { kept } }
  })
  return { ...dense, blocks }
}

/** Tokens per second of several sequences for each view, all at once. */
async function decode(views: readonly ModelView[], sequences: number, count: number): Promise<number> {
  const sessions = views.map((one) => new DecodingSession(one))
  const start = Promise.withResolvers<void>()
  let ready = 0
  const answers = sessions.map(async (session) => {
    let rows = await session.feed(prompt(16 * sequences), sequences)
    if (++ready === sessions.length) start.resolve()
    await start.promise
    for (let i = 0; i < count; i++)
      rows = await session.feed(
        Int32Array.from(rows, (logits) => topIndices(logits, 1)[0] as number),
        sequences,
      )
  })
  await start.promise
  const seconds = await secondsOf(() => Promise.all(answers))
  for (const session of sessions) session.dispose()
  return (views.length * sequences * count) / seconds
}

async function feedOnce(ids: Int32Array): Promise<void> {
  const session = new DecodingSession(view)
  await session.feed(ids, 1)
  session.dispose()
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return (performance.now() - start) / 1000
}
