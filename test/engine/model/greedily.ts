import { DecodingSession } from '#engine/model/decoding/session.ts'
import type { Model } from '#engine/model/model.ts'
import { denseView } from '#engine/model/views/view.ts'

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
