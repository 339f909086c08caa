import { EspalierError } from '#contract/errors.ts'

/** Connection settings for one hub. */
export interface Connection {
  /** Address without a trailing slash. */
  endpoint: string
  token: string | undefined
  /** Attempts without progress before giving up. */
  attempts: number
  /** First pause between attempts; it doubles each time. */
  pauseSeconds: number
  /** A transfer without data for this long counts as cut. */
  idleSeconds: number
}

/** A temporary failure: a cut, a timeout or a busy server. `waitSeconds` is the pause that the server asked for. */
export class PassingFailure extends Error {
  readonly waitSeconds: number | undefined
  /** The error to report if it persists. */
  readonly final: EspalierError

  constructor(final: EspalierError, waitSeconds?: number) {
    super(final.message)
    this.final = final
    this.waitSeconds = waitSeconds
  }
}

interface RequestOptions {
  method?: 'GET' | 'HEAD'
  headers?: Record<string, string>
  signal: AbortSignal
  /** Aborts this attempt, but not the whole download. Default: `idleSeconds`. */
  patience?: AbortSignal
  /** Names what is requested in error messages: `config.json of owner/name (revision main)`. */
  subject: string
  /** Return a redirect to another server instead of following it: its headers already hold what a HEAD asks for. */
  stopAtOtherOrigin?: boolean
}

const passingStatus = new Set([408, 425, 429, 500, 502, 503, 504])
const redirectStatus = new Set([301, 302, 303, 307, 308])
const longestWaitSeconds = 300

/** Sends a request and follows its redirects. Only the hub's own origin gets the token. Returns all responses, the final one last. */
export async function requestHops(connection: Connection, url: string, options: RequestOptions): Promise<Response[]> {
  const home = new URL(connection.endpoint).origin
  const hops: Response[] = []
  let target = new URL(url)
  while (hops.length < 10) {
    const response = await send(connection, target, target.origin === home, options)
    hops.push(response)
    const location = redirectStatus.has(response.status) ? response.headers.get('location') : null
    if (location === null) {
      await refuseFailure(response, options.subject)
      return hops
    }
    await response.body?.cancel()
    const next = new URL(location, target)
    checkRedirect(target, next, options.subject)
    if (options.stopAtOtherOrigin && next.origin !== target.origin) return hops
    target = next
  }
  throw new EspalierError('unreachable', `The hub sent ${options.subject} in a redirect loop. Try again later.`)
}

async function send(connection: Connection, target: URL, trusted: boolean, options: RequestOptions): Promise<Response> {
  const headers: Record<string, string> = { 'user-agent': 'espalier', 'accept-encoding': 'identity', ...options.headers }
  if (trusted && connection.token !== undefined) headers.authorization = `Bearer ${connection.token}`
  const patience = options.patience ?? AbortSignal.timeout(connection.idleSeconds * 1000)
  try {
    const signal = AbortSignal.any([options.signal, patience])
    return await fetch(target, { method: options.method ?? 'GET', headers, redirect: 'manual', signal })
  } catch (thrown) {
    throw asPassingFailure(thrown, options.signal, `${target.host} cannot be reached for ${options.subject}`)
  }
}

/** Turns a network error into a temporary failure. Returns the reason of the cancellation if the work was cancelled. */
export function asPassingFailure(thrown: unknown, signal: AbortSignal, what: string): unknown {
  if (signal.aborted) return signal.reason
  if (thrown instanceof PassingFailure || thrown instanceof EspalierError) return thrown
  const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause.message || thrown.cause.name : String(thrown)
  return new PassingFailure(new EspalierError('unreachable', `${what}: ${cause}.`, { cause }))
}

function checkRedirect(from: URL, to: URL, subject: string): void {
  const allowed = to.protocol === 'https:' || (to.protocol === 'http:' && from.protocol === 'http:')
  if (!allowed)
    throw new EspalierError('invalid', `The hub redirects ${subject} from ${from.protocol} to ${to.protocol}, which is refused.`)
}

async function refuseFailure(response: Response, subject: string): Promise<void> {
  if (response.ok || response.status === 416) return
  await response.body?.cancel()
  const refusal = explainStatus(response, subject)
  if (!passingStatus.has(response.status)) throw refusal
  throw new PassingFailure(refusal, readRetryAfter(response.headers.get('retry-after')))
}

/** Parses Retry-After, which is seconds or a date. */
export function readRetryAfter(value: string | null, now = Date.now()): number | undefined {
  if (value === null) return undefined
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - now) / 1000
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined
}

/** Retries after temporary failures, with growing pauses. */
export async function withAttempts<T>(connection: Connection, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let failures = 0; ; ) {
    try {
      return await work()
    } catch (thrown) {
      if (!(thrown instanceof PassingFailure)) throw thrown
      failures += 1
      await pauseAfter(connection, thrown, failures, signal)
    }
  }
}

/** Waits before the next attempt; after the last one, throws the final error. */
export async function pauseAfter(connection: Connection, failure: PassingFailure, failures: number, signal: AbortSignal): Promise<void> {
  const seconds = failure.waitSeconds ?? Math.min(30, connection.pauseSeconds * 2 ** (failures - 1))
  if (failures >= connection.attempts || seconds > longestWaitSeconds) throw failure.final
  signal.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stop)
      resolve()
    }, seconds * 1000)
    signal.addEventListener('abort', stop, { once: true })
  })
}

/** Returns the error for an unsuccessful response. The hub sends the reason in the header `x-error-code`. */
function explainStatus(response: Response, subject: string): EspalierError {
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
