import { answerFor, Refusal } from '../guard/refusal.ts'
import { BadField } from './requests.ts'

/** OpenAI's type of error for each status; others are errors of the server. */
const types: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  429: 'rate_limit_error',
}

const codes: Readonly<Record<number, string>> = { 401: 'invalid_api_key', 404: 'model_not_found', 429: 'rate_limit_exceeded' }

/** Any thrown value as a failure in OpenAI's form. Clients retry a conflict, which would change nothing here. */
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
