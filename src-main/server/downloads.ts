import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { basename, dirname, extname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import type { CallApi } from '#contract/api.ts'
import { id as idPattern } from '#contract/identifiers.ts'
import type { ModelDetail } from '#contract/models/models.ts'
import { securityHeaders } from './guard/content-policy.ts'
import { confinedPath } from './guard/path-of-address.ts'
import { Refusal } from './guard/refusal.ts'

/** Handles `/exports/<experiment>` (the experiment as a file) and `/exports/<model>/<file>` (a file of a model). */
export async function answerDownload(call: CallApi, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [id = '', ...rest] = path.slice('/exports/'.length).split('/')
  if (!idPattern.safeParse(id).success) throw new Refusal(400, 'An id is 3 to 64 lower-case letters, digits and dashes.')
  if (rest.length === 0) return sendExperiment(call, id, request, response)
  return sendModelFile(await call('models.get', { id }), rest.join('/'), request, response)
}

async function sendExperiment(call: CallApi, id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
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

async function sendModelFile(model: ModelDetail, name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const isSingleFile = extname(model.path) !== '' && model.files.length <= 1 && (await stat(model.path)).isFile()
  const target = await confinedPath(isSingleFile ? dirname(model.path) : model.path, name)
  if (!model.files.some((file) => basename(file.name) === basename(target))) throw new Refusal(404, 'The model has no such file.')
  const status = await stat(target)
  if (!status.isFile()) throw new Refusal(404, 'The model has no such file.')
  const start = resumeAt(request, status.size)
  response.writeHead(start > 0 ? 206 : 200, {
    ...downloadHeaders(basename(target), 'application/octet-stream'),
    'accept-ranges': 'bytes',
    'content-length': status.size - start,
    ...(start > 0 ? { 'content-range': `bytes ${start}-${status.size - 1}/${status.size}` } : {}),
  })
  if (request.method === 'HEAD') return void response.end()
  await pipeline(createReadStream(target, { start }), response)
}

/** Returns the offset to send from: N for `Range: bytes=N-`, which resumes a download, and 0 for any other range. */
function resumeAt(request: IncomingMessage, size: number): number {
  const start = Number(request.headers.range?.match(/^bytes=(\d+)-$/)?.[1] ?? 0)
  if (start > 0 && start >= size) throw new Refusal(416, `The file has ${size} bytes.`, { 'content-range': `bytes */${size}` })
  return start
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
