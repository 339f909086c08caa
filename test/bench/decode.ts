/**
 * Answers token by token: `node test/bench/decode.ts [model] [tokens]` prints tokens a second of one sequence and of five together, processor
 * time a token, the first token after a prompt of 2,016 and a whole pass over as many, line by line as they come.
 */
import { join } from 'node:path'
import { openBackend } from '#engine/backend/backend.ts'
import { topIndices } from '#engine/evaluation/generation/probabilities.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { openModel } from '#engine/model/model.ts'
import { DecodingSession } from '#engine/model/session.ts'
import { denseView } from '#engine/model/view.ts'

const [path = join(import.meta.dirname, '../../resources/sample-model'), given = '64'] = process.argv.slice(2)
const { name } = await openBackend('tensorflow')
const model = await openModel(path)
const view = denseView(model)
const prompt = (count: number) => Int32Array.from({ length: count }, (_, i) => (i * 37 + 11) % Math.min(4000, model.spec.vocabulary))
console.log(`${model.name} on ${name}`)

await decode(1, 2)
for (let round = 1; round <= 3; round++) {
  for (const sequences of [1, 5]) console.log(`round ${round}, ${sequences} together: ${await decode(sequences, Number(given))}`)
}
const long = Math.min(2016, model.spec.contextLength - 1)
for (let round = 1; round <= 3; round++) {
  const first = await secondsOf(() => feedOnce(prompt(long)))
  const whole = await secondsOf(() => perplexity(view, [prompt(long)]))
  console.log(
    `round ${round}: first token after ${long} ${first.toFixed(3)} s, a whole pass ${whole.toFixed(3)} s, ratio ${(first / whole).toFixed(2)}`,
  )
}
await model.close()

async function decode(sequences: number, tokens: number): Promise<string> {
  const session = new DecodingSession(view)
  let rows = await session.feed(prompt(16 * sequences), sequences)
  const before = process.cpuUsage()
  const seconds = await secondsOf(async () => {
    for (let i = 0; i < tokens; i++)
      rows = await session.feed(
        Int32Array.from(rows, (logits) => topIndices(logits, 1)[0] as number),
        sequences,
      )
  })
  const { user, system } = process.cpuUsage(before)
  session.dispose()
  const milliseconds = (user + system) / 1000 / (sequences * tokens)
  return `${((sequences * tokens) / seconds).toFixed(1)} tokens/s, ${milliseconds.toFixed(1)} ms of processor time a token`
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
