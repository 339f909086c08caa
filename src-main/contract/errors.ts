/** What went wrong, as it crosses processes: a code that programs decide by, a sentence for people. */
export interface ErrorMessage {
  code: ErrorCode
  message: string
  details?: Record<string, unknown>
}

export const errorCodes = [
  'usage',
  'invalid',
  'not-found',
  'infeasible',
  'conflict',
  'cancelled',
  'out-of-memory',
  'unreachable',
  'disk',
  'internal',
] as const
export type ErrorCode = (typeof errorCodes)[number]

/** An error whose message is written for the person at the screen: what, the value, what is allowed, what to do. */
export class EspalierError extends Error {
  readonly code: ErrorCode
  readonly details: Record<string, unknown> | undefined

  constructor(code: ErrorCode, message: string, details?: Record<string, unknown>) {
    super(message)
    this.name = 'EspalierError'
    this.code = code
    this.details = details
  }
}

/** The message that another process or a screen may show for any thrown value. */
export function toErrorMessage(thrown: unknown): ErrorMessage {
  if (thrown instanceof EspalierError) {
    return { code: thrown.code, message: thrown.message, ...(thrown.details ? { details: thrown.details } : {}) }
  }
  if (thrown instanceof Error && thrown.name === 'AbortError') return { code: 'cancelled', message: 'Cancelled.' }
  return { code: 'internal', message: thrown instanceof Error ? thrown.message : String(thrown) }
}
