import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import type { CallApi } from '#contract/api.ts'
import { id as idPattern } from '#contract/identifiers.ts'
import { securityHeaders } from './guard/content-policy.ts'
import { Refusal } from './guard/refusal.ts'

/** Handles `/exports/<experiment>`: the experiment as a file. */
export async function answerDownload(call: CallApi, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const id = path.slice('/exports/'.length)
  if (!idPattern.safeParse(id).success) throw new Refusal(400, 'An id is 3 to 64 lower-case letters, digits and dashes.')
  const file = await call('experiments.export', { id })
  const zipped = /\bgzip\b/.test(request.headers['accept-encoding']?.toString() ?? '')
  response.writeHead(200, { ...downloadHeaders(file.fileName, file.type), ...(zipped ? { 'content-encoding': 'gzip' } : {}) })
  if (request.method === 'HEAD') return void response.end()
  const source = Readable.from(pieces(file.content))
  await (zipped ? pipeline(source, createGzip({ level: 4 }), response) : pipeline(source, response))
}

function* pieces(text: string): Generator<Buffer> {
  const size = 256 * 1024
  for (let start = 0; start < text.length; ) {
    const end = start + size
    // A surrogate pair must not be split.
    const cut = end < text.length && /[\uD800-\uDBFF]/.test(text.charAt(end - 1)) ? end - 1 : end
    yield Buffer.from(text.slice(start, cut))
    start = cut
  }
}

function downloadHeaders(fileName: string, type: string): Record<string, string> {
  const plain = fileName.replaceAll(/[^\w.-]/g, '_')
  return {
    ...securityHeaders,
    'cache-control': 'no-store',
    'content-type': type,
    'content-disposition': `attachment; filename="${plain}"; filename*=UTF-8''${encodeURIComponent(fileName)}`,
  }
}
