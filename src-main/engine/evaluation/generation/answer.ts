import { EspalierError } from '#contract/errors.ts'
import { paperBeams } from '#contract/protocol.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { beamSearch } from './beam-search.ts'

/** Prompt and answer as text, as the 2SSP reference's qualitative evaluation prints them. */
export async function answerPrompt(
  view: ModelView,
  tokenizer: Tokenizer,
  prompt: string,
  maxLength: number,
  signal?: AbortSignal,
): Promise<string> {
  const ids = tokenizer.encode(prompt)
  if (ids.length === 0) throw new EspalierError('usage', 'An empty prompt cannot be answered. Give at least one word.')
  if (ids.length >= maxLength)
    throw new EspalierError(
      'usage',
      `The prompt has ${ids.length} tokens; a total length of ${maxLength} leaves no room for an answer. Raise the length or shorten the prompt.`,
    )
  const answer = await beamSearch(view, ids, { ...paperBeams, maxLength, endIds: tokenizer.endIds }, signal ? { signal } : {})
  return tokenizer.decode(answer.ids, { skipSpecial: true })
}
