import type { GeneratedToken } from '#contract/playground/generation.ts'

/** The log-probability that means minus infinity, which JSON does not have. */
const lowest = -9999

const logarithm = ({ probability }: { probability: number }): number => (probability > 0 ? Math.log(probability) : lowest)

/**
 * Log-probabilities as `/v1/completions` returns them: parallel lists. The first token of a scored prompt has none, because no token comes
 * before it.
 */
export function completionLogprobs(scored: readonly GeneratedToken[], tokens: readonly GeneratedToken[], count: number, offset = 0) {
  const all = [...scored, ...tokens]
  const isFirst = (index: number) => index === 0 && scored.length > 0 && offset === 0
  let position = offset
  return {
    tokens: all.map(({ text }) => text),
    token_logprobs: all.map((token, index) => (isFirst(index) ? null : logarithm(token))),
    top_logprobs: count === 0 ? null : all.map((token, index) => (isFirst(index) ? null : likeliest(token, count))),
    text_offset: all.map(({ text }) => {
      position += text.length
      return position - text.length
    }),
  }
}

/** Returns the likeliest tokens and the chosen one, by text. If several tokens have the same text, the likeliest counts. */
function likeliest(token: GeneratedToken, count: number): Record<string, number> {
  const found = new Map<string, number>()
  for (const one of [...token.alternatives.slice(0, count), token]) {
    const before = found.get(one.text)
    found.set(one.text, Math.max(logarithm(one), before ?? Number.NEGATIVE_INFINITY))
  }
  return Object.fromEntries(found)
}

/** Log-probabilities as `/v1/chat/completions` returns them: a list of tokens. */
export function chatLogprobs(tokens: readonly GeneratedToken[], count: number) {
  const entry = (token: { text: string; probability: number }) => ({
    token: token.text,
    logprob: logarithm(token),
    bytes: [...Buffer.from(token.text)],
  })
  return {
    content: tokens.map((token) => ({ ...entry(token), top_logprobs: token.alternatives.slice(0, count).map(entry) })),
    refusal: null,
  }
}
