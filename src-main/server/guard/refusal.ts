import { type ErrorCode, type ErrorMessage, toErrorMessage } from '#contract/errors.ts'

/** A request refused before any call is made; `status` is the HTTP status. */
export class Refusal extends Error {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message)
    this.name = 'Refusal'
    this.status = status
    this.headers = headers
  }
}

const statusOfCode: Readonly<Record<ErrorCode, number>> = {
  usage: 400,
  invalid: 400,
  'not-found': 404,
  conflict: 409,
  cancelled: 409,
  infeasible: 422,
  internal: 500,
  unreachable: 502,
  'out-of-memory': 503,
  disk: 507,
}

interface FailedAnswer {
  status: number
  headers: Readonly<Record<string, string>>
  body: Omit<ErrorMessage, 'code'> & { code: ErrorCode | 'refused' }
}

/** The HTTP response for any thrown value. */
export function answerFor(thrown: unknown): FailedAnswer {
  if (thrown instanceof Refusal)
    return { status: thrown.status, headers: thrown.headers, body: { code: 'refused', message: thrown.message } }
  const body = toErrorMessage(thrown)
  return { status: statusOfCode[body.code], headers: {}, body }
}
