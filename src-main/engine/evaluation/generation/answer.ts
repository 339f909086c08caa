import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { paperBeams } from '#contract/protocol.ts'
import { DecodingSession } from '#engine/model/decoding/session.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { TextStream } from '#engine/tokenizer/text-stream.ts'
import { encodeText, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { beamSearch } from './beam-search.ts'
import { topIndices } from './sampling.ts'
import { StopText } from './stop-text.ts'

/** Prompt and answer as text, as the 2SSP reference's qualitative evaluation prints them. */
export async function answerPrompt(
  view: ModelView,
  tokenizer: Tokenizer,
  prompt: string,
  maxLength: number,
  signal?: AbortSignal,
): Promise<string> {
  const ids = encodeText(tokenizer, prompt)
  if (ids.length === 0) throw new EspalierError('usage', 'An empty prompt cannot be answered. Give at least one word.')
  if (ids.length >= maxLength)
    throw new EspalierError(
      'usage',
      `The prompt has ${ids.length} tokens; a total length of ${maxLength} leaves no room for an answer. Raise the length or shorten the prompt.`,
    )
  const answer = await beamSearch(view, ids, { ...paperBeams, maxLength, endIds: tokenizer.endIds }, signal ? { signal } : {})
  return tokenizer.decode(answer.ids, { skipSpecial: true })
}

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
