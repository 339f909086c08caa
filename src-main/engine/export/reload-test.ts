import type { ReloadTest } from '#contract/exports/exports.ts'
import type { Windows } from '#engine/data/windows.ts'
import { perplexity } from '#engine/evaluation/perplexity.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import { type Model, openModel } from '#engine/model/model.ts'
import { denseView, type ModelView } from '#engine/model/views/view.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'

const windowCount = 2
const windowLength = 256
const promptLength = 16
const greedyTokens = 8

/** A model's answers before it is saved: its perplexity on a few windows, and the tokens that it continues a prompt with. */
export interface Expectation {
  readonly windows: Windows
  readonly perplexity: number
  readonly greedy: readonly number[]
}

/** Computes the answers of the model to save: on a text if the model has a tokenizer, else on fixed token ids. */
export async function expectAnswers(view: ModelView, model: Model, text: string): Promise<Expectation> {
  const length = Math.min(windowLength, model.spec.contextLength)
  const tokenizer = await openTokenizer(model.path).catch(() => undefined)
  const ids = tokenizer?.encode(text) ?? Array.from({ length: windowCount * length }, (_, i) => (i * 7919) % model.spec.vocabulary)
  const windows = Array.from({ length: windowCount }, (_, i) => Int32Array.from(ids.slice(i * length, (i + 1) * length))).filter(
    (window) => window.length > promptLength,
  )
  return { windows, perplexity: (await perplexity(view, windows)).perplexity, greedy: await continueGreedily(view, windows) }
}

/** Opens the saved model under a memory budget and repeats the test. */
export async function testReload(
  path: string,
  { windows, perplexity: expected, greedy }: Expectation,
  memoryBytes?: number,
): Promise<ReloadTest> {
  const model = await openModel(path, memoryBytes)
  try {
    const view = denseView(model)
    const found = await perplexity(view, windows)
    const answer = await continueGreedily(view, windows)
    return {
      tokens: found.tokens,
      perplexity: found.perplexity,
      expected,
      equalTokens: greedy.filter((token, i) => token === answer[i]).length,
      greedyTokens: greedy.length,
    }
  } finally {
    await model.close()
  }
}

async function continueGreedily(view: ModelView, windows: Windows): Promise<number[]> {
  const session = new DecodingSession(view)
  const found: number[] = []
  try {
    let next = windows[0]?.slice(0, promptLength) ?? new Int32Array()
    while (next.length > 0 && found.length < greedyTokens) {
      const [logits = new Float32Array()] = await session.feed(next, 1)
      found.push(likeliest(logits))
      next = Int32Array.of(found.at(-1) as number)
    }
  } finally {
    session.dispose()
  }
  return found
}

const likeliest = (logits: Float32Array): number => logits.reduce((best, value, id) => (value > (logits[best] as number) ? id : best), 0)
