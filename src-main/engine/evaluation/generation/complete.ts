import { at } from '#contract/at.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { TextStream } from '#engine/tokenizer/text-stream.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { topIndices } from './probabilities.ts'
import { StopText } from './stop-text.ts'

interface Completion {
  /** The maximum number of tokens to generate. */
  readonly tokens: number
  /** Texts that end the answer. The answer does not include them. */
  readonly stops: readonly string[]
  readonly signal: AbortSignal | undefined
}

/** Continues a prompt with the likeliest tokens, up to an end token, a stop text or the limit. */
export async function complete(
  view: ModelView,
  tokenizer: Tokenizer,
  prompt: readonly number[],
  { tokens, stops, signal }: Completion,
): Promise<string> {
  const stream = new TextStream(tokenizer, { context: prompt })
  const stop = new StopText(stops)
  const session = new DecodingSession(view)
  let text = ''
  try {
    let [logits] = await session.feed(Int32Array.from(prompt), 1, signal)
    for (let written = 1; logits; written++) {
      const id = at(topIndices(logits, 1), 0)
      if (tokenizer.endIds.includes(id)) break
      const piece = stop.push(stream.push(id))
      text += piece.text
      if (piece.stopped) return text
      if (written === tokens) break
      ;[logits] = await session.feed(Int32Array.of(id), 1, signal)
    }
    const rest = stop.push(stream.finish())
    return text + rest.text + (rest.stopped ? '' : stop.finish())
  } finally {
    session.dispose()
  }
}
