import { answerFor, Refusal } from '../guard/refusal.ts'
import { BadField } from './requests.ts'

/** OpenAI's error type for these statuses. Others are `invalid_request_error` below 500 and `server_error` from 500. */
const types: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  429: 'rate_limit_error',
}

const codes: Readonly<Record<number, string>> = { 401: 'invalid_api_key', 404: 'model_not_found', 429: 'rate_limit_exceeded' }

/**
 * Turns any thrown value into a failure in OpenAI's form. A conflict becomes 400, because clients retry a 409 and a retry would change
 * nothing.
 */
export function openAiFailure(thrown: unknown) {
  const { status: found, headers, body } = answerFor(thrown)
  const status = found === 409 || found === 422 ? 400 : found
  const isUnknownPath = status === 404 && thrown instanceof Refusal
  const type = types[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error')
  const code = isUnknownPath ? null : (codes[status] ?? null)
  return {
    status,
    headers,
    body: { error: { message: body.message, type, param: thrown instanceof BadField ? thrown.param : null, code } },
  }
}
