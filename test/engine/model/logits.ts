import { DecodingSession } from '#engine/model/decoding/session.ts'
import { finalHidden, runWindows } from '#engine/model/forward.ts'
import type { Model } from '#engine/model/model.ts'
import { headLogits } from '#engine/model/parts/head/embedding-and-head.ts'
import { denseView, type ModelView } from '#engine/model/views/view.ts'

/** Logits of every position of one window: T arrays of V. */
export async function logitsOf(view: ModelView, window: Int32Array): Promise<number[][]> {
  let logits: number[][] = []
  await runWindows(view, [window], {
    async afterStack(_group, x) {
      const hidden = finalHidden(view, x)
      await view.model.vocabulary.forEachHeadChunk((chunk) => {
        const part = headLogits(hidden, chunk)
        logits = part.arraySync()
        part.dispose()
      })
      hidden.dispose()
    },
  })
  return logits
}

/** The largest difference between two lists, relative to the largest entry of the second. */
export function relativeError(found: readonly number[], expected: readonly number[]): number {
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const difference = found.reduce((most, value, i) => Math.max(most, Math.abs(value - (expected[i] ?? Number.NaN))), 0)
  return difference / largest
}

/** The greedy continuation of a prompt. */
export async function greedily(model: Model, prompt: readonly number[], count: number): Promise<number[]> {
  const session = new DecodingSession(denseView(model))
  const ids: number[] = []
  for (let next = prompt; ids.length < count; next = ids.slice(-1)) {
    const [logits] = (await session.feed(Int32Array.from(next), 1)) as [Float32Array]
    ids.push(logits.indexOf(logits.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY)))
  }
  session.dispose()
  return ids
}
