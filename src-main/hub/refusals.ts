import { EspalierError } from '#contract/errors.ts'

/** Returns the error for an unsuccessful response. The hub sends the reason in the header `x-error-code`. */
export function explainStatus(response: Response, subject: string): EspalierError {
  const reason = response.headers.get('x-error-code') ?? ''
  const details = { status: response.status, reason }
  if (reason === 'GatedRepo' || response.status === 403) {
    const advice = 'Accept its conditions on its page on the hub with your account, then set HF_TOKEN to a token of that account.'
    return new EspalierError('unreachable', `Access to ${subject} is restricted (${response.status}). ${advice}`, details)
  }
  if (response.status === 401) {
    const advice = 'Check the name; if it is private or gated, set HF_TOKEN to a token that may read it.'
    return new EspalierError(
      'unreachable',
      `The hub does not give out ${subject} without a valid token, or there is no such repository (401). ${advice}`,
      details,
    )
  }
  if (response.status === 404) return new EspalierError('not-found', `The hub has no ${subject} (404). ${notFoundAdvice(reason)}`, details)
  if (response.status === 429) {
    return new EspalierError(
      'unreachable',
      `The hub's rate limit was reached (429) for ${subject}. Try again in a few minutes; a token raises the limit.`,
      details,
    )
  }
  return new EspalierError('unreachable', `The hub answered ${response.status} for ${subject}. Try again later.`, details)
}

function notFoundAdvice(reason: string): string {
  if (reason === 'EntryNotFound') return 'The repository exists, but the file does not: check the file name.'
  if (reason === 'RevisionNotFound') return 'The repository exists, but the revision does not: try main.'
  return 'Check the name (owner/name) and the revision.'
}
