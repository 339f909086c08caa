import { EspalierError } from '#contract/errors.ts'
import type { Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import type { Question, Request } from './index.ts'
import { splitTrailingSpace } from './python-text.ts'

/** The parts of a tokenizer that encoding questions needs. */
export type Encoder = Pick<Tokenizer, 'encode' | 'beginId' | 'endIds'>

/** Wraps a tokenizer so that it puts the begin token before every text. */
export function beginning({ encode, beginId, endIds }: Encoder): Encoder {
  return beginId === undefined ? { encode, endIds } : { encode: (text) => [beginId, ...encode(text)], beginId, endIds }
}

/**
 * A question's requests as token ids. Requests with the same prefix are joined. `places[choice]` says where the likelihood of a choice is.
 */
interface EncodedQuestion {
  requests: { prefix: Int32Array; continuations: Int32Array[] }[]
  places: { request: number; continuation: number }[]
}

export function encodeQuestion(tokenizer: Encoder, question: Question, contextLength: number): EncodedQuestion {
  const requests: EncodedQuestion['requests'] = []
  const numbers = new Map<string, number>()
  const places = question.requests
    .flatMap((request) => encodeRequest(tokenizer, request, contextLength))
    .map(({ prefix, continuation }) => {
      const key = prefix.join(' ')
      const number = numbers.get(key) ?? requests.push({ prefix: Int32Array.from(prefix), continuations: [] }) - 1
      numbers.set(key, number)
      const continuations = requests[number]?.continuations ?? []
      return { request: number, continuation: continuations.push(Int32Array.from(continuation)) - 1 }
    })
  return { requests, places }
}

interface Pair {
  prefix: number[]
  continuation: number[]
}

/**
 * Encodes context and continuation as one text. If the context alone has n tokens, the continuation consists of all tokens after the first
 * n. Before that, white space at the end of the context is moved to the continuation. Sequences that are too long are cut on the left.
 */
function encodeRequest(tokenizer: Encoder, request: Request, contextLength: number): Pair[] {
  const [context, space] = splitTrailingSpace(request.context)
  const contextTokens = tokenizer.encode(context).length
  return request.continuations.map((text) => {
    const whole = tokenizer.encode(context + space + text)
    // The whole text may have no more tokens than the context alone. Then only the last token is scored.
    const border = Math.min(contextTokens, whole.length - 1)
    const pair =
      border > 0
        ? { prefix: whole.slice(0, border), continuation: whole.slice(border) }
        : { prefix: [startOf(tokenizer)], continuation: whole }
    return shorten(pair, contextLength)
  })
}

function shorten({ prefix, continuation }: Pair, contextLength: number): Pair {
  if (continuation.length > contextLength) {
    throw new EspalierError(
      'invalid',
      `An answer of ${continuation.length} tokens does not fit in the model's context of ${contextLength} tokens. Leave out this task for this model.`,
    )
  }
  const room = contextLength + 1 - continuation.length
  return { prefix: prefix.slice(-room), continuation }
}

/** The token that replaces an empty context: the begin token, else an end token. */
function startOf(tokenizer: Encoder): number {
  const id = tokenizer.beginId ?? tokenizer.endIds[0]
  if (id !== undefined) return id
  throw new EspalierError('invalid', 'A question has no context, and the tokenizer has neither a begin nor an end token to put there.')
}
