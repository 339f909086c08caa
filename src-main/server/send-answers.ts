import type { IncomingMessage, ServerResponse } from 'node:http'
import { securityHeaders } from '#server/guard/content-policy.ts'
import { answerFor } from '#server/guard/refusal.ts'
import type { PageFile } from './page-files.ts'

const lingerMilliseconds = 1000

interface Failure {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: object
}

export function answerJson(response: ServerResponse, status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): void {
  const body = Buffer.from(JSON.stringify(value ?? null))
  response.writeHead(status, {
    ...securityHeaders,
    'cache-control': 'no-store',
    'content-type': 'application/json; charset=utf-8',
    'content-length': body.length,
    ...headers,
  })
  response.end(body)
}

/** Answers with an error. `form` turns what was thrown into the body that this kind of client reads. */
export function answerFailure(
  request: IncomingMessage,
  response: ServerResponse,
  thrown: unknown,
  form: (thrown: unknown) => Failure = answerFor,
): void {
  if (response.headersSent || request.socket.destroyed) {
    response.destroy()
    return
  }
  const { status, headers, body } = form(thrown)
  if (status === 500) console.error(thrown)
  answerJson(response, status, body, headers)
  discardRest(request)
}

/** A client that reads nothing of an answer for this long is disconnected. */
const stalledMilliseconds = 30_000

/** Ends a response whose client stops reading, so that what it has not read does not stay in memory. */
export function endStalled(response: ServerResponse, milliseconds = stalledMilliseconds): void {
  response.setTimeout(milliseconds)
  response.on('timeout', () => {
    if (response.writableLength > 0) response.destroy()
    else response.setTimeout(milliseconds)
  })
}

/** Lets a client that is still sending read its refusal, then closes the connection instead of reading the rest. */
function discardRest(request: IncomingMessage): void {
  if (request.complete) return
  request.resume()
  const end = setTimeout(() => request.socket.destroy(), lingerMilliseconds)
  request.once('close', () => clearTimeout(end))
}

export function answerPage(request: IncomingMessage, response: ServerResponse, file: PageFile): void {
  const gzipped = /\bgzip\b/.test(request.headers['accept-encoding']?.toString() ?? '') ? file.gzipped : undefined
  const body = gzipped ?? file.bytes
  const tag = `"${file.tag}${gzipped ? '-gz' : ''}"`
  const headers = {
    ...securityHeaders,
    'cache-control': file.immutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    etag: tag,
    vary: 'accept-encoding',
  }
  const known = request.headers['if-none-match']?.split(',').map((one) => one.trim().replace(/^W\//, '')) ?? []
  if (known.includes(tag) || known.includes('*')) {
    response.writeHead(304, headers).end()
    return
  }
  response.writeHead(200, {
    ...headers,
    'content-type': file.type,
    'content-length': body.length,
    ...(gzipped ? { 'content-encoding': 'gzip' } : {}),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}
