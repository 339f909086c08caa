import type { IncomingMessage, ServerResponse } from 'node:http'
import { api, type CallApi, type CallName, isCallName } from '#contract/api.ts'
import { EspalierError } from '#contract/errors.ts'
import { bodyLimit, checkBodyHeaders, importLimit, readJson } from './body.ts'
import { Refusal } from './guard/refusal.ts'
import { openApiDocument } from './openapi.ts'
import { answerJson } from './send-answers.ts'

const descriptionPath = '/api/openapi.json'

/** Handles `POST /api/<call>` and the description of all calls. */
export async function answerCall(call: CallApi, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (path === descriptionPath) {
    checkMethod(request, 'GET')
    return answerJson(response, 200, openApiDocument(api))
  }
  const name = path.slice('/api/'.length)
  if (!isCallName(name)) throw new Refusal(404, `There is no such call. ${descriptionPath} describes all calls.`)
  checkMethod(request, 'POST')
  const limit = limitOf(name)
  checkBodyHeaders(request, limit)
  if (request.headers.expect === '100-continue') response.writeContinue()
  const input = (await readJson(request, limit)) as Parameters<CallApi>[1]
  answerJson(response, 200, await call(name, input, untilDisconnected(response)))
}

/** Returns a signal that aborts when the client disconnects. */
export function untilDisconnected(response: ServerResponse): AbortSignal {
  const controller = new AbortController()
  response.once('close', () => controller.abort(new EspalierError('cancelled', 'The client disconnected.')))
  return controller.signal
}

function limitOf(name: CallName): number {
  return name === 'experiments.import' || name === 'texts.upload' ? importLimit : bodyLimit
}

export function checkMethod(request: IncomingMessage, ...allowed: string[]): void {
  if (allowed.includes(request.method ?? '')) return
  throw new Refusal(405, `Use ${allowed.join(' or ')} here.`, { allow: allowed.join(', ') })
}
