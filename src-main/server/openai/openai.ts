import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { EspalierError } from '#contract/errors.ts'
import type { GeneratedToken, GenerationEvent } from '#contract/playground/generation.ts'
import type { Answerer } from '#contract/playground/playground.ts'
import { securityHeaders } from '#server/guard/content-policy.ts'
import { answerJson, endStalled } from '#server/send-answers.ts'
import { checkMethod, untilDisconnected } from '../answer-call.ts'
import { bodyLimit, checkBodyHeaders, readJson } from '../body.ts'
import type { Door } from '../door.ts'
import { Refusal } from '../guard/refusal.ts'
import { askChat, chatKind } from './chat-completions.ts'
import { askCompletions, completionsKind } from './completions.ts'
import { openAiFailure } from './failure.ts'
import { type Answer, type Asked, finishReason, type Head, type Kind, usageOf } from './kinds.ts'
import { readChat, readCompletions } from './requests.ts'

/** How many requests may run or wait at the same time. */
const mostAtOnce = 32

export const openAiRoot = '/v1/'

/** Answers `/v1/models`, `/v1/completions` and `/v1/chat/completions` as OpenAI's API does, with the models and runs of the library. */
export class OpenAiDoor {
  readonly #door: Door
  readonly #patience: number | undefined
  #running = 0

  /** @param patience milliseconds after which a client that reads nothing of its answer is disconnected */
  constructor(door: Door, patience?: number) {
    this.#door = door
    this.#patience = patience
  }

  async answer(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const endpoint = path.slice(openAiRoot.length)
    const [isModels, model] = /^models(?:\/(.+)|\/)?$/.exec(endpoint) ?? []
    if (isModels !== undefined) return this.#models(model, request, response)
    if (endpoint !== 'completions' && endpoint !== 'chat/completions')
      throw new Refusal(404, `There is no ${path}. Use /v1/models, /v1/completions or /v1/chat/completions.`)
    checkMethod(request, 'POST')
    checkBodyHeaders(request, bodyLimit)
    if (request.headers.expect === '100-continue') response.writeContinue()
    const body = await readJson(request, bodyLimit)
    if (this.#running >= mostAtOnce)
      throw new Refusal(429, `${mostAtOnce} requests are running or waiting, which is the limit. Retry when one has ended.`, {
        'retry-after': '1',
      })
    this.#running++
    endStalled(response, this.#patience)
    try {
      if (endpoint === 'completions') await this.#generate(askCompletions(readCompletions(body)), completionsKind, response)
      else await this.#generate(askChat(readChat(body)), chatKind, response)
      // An answer takes memory until the client has read it, so it keeps its place until then.
      if (!response.closed) await once(response, 'close')
    } finally {
      this.#running--
    }
  }

  async #models(id: string | undefined, request: IncomingMessage, response: ServerResponse): Promise<void> {
    checkMethod(request, 'GET', 'HEAD')
    const all = await this.#door.call('playground.answerers', {})
    if (id === undefined) return answerJson(response, 200, { object: 'list', data: all.map(describe) })
    const found = all.find((one) => one.id === id)
    if (!found) throw new EspalierError('not-found', `There is no model or run ${id}. /v1/models lists all of them.`)
    answerJson(response, 200, describe(found))
  }

  async #generate(asked: Asked, kind: Kind, response: ServerResponse): Promise<void> {
    const head = { id: `${kind.prefix}-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model: asked.request.model }
    const signal = untilDisconnected(response)
    if (!asked.streams) {
      const { answers } = await this.#door.call('playground.complete', asked.request, signal)
      return answerJson(response, 200, kind.whole(head, asked, answers))
    }
    const session = randomUUID()
    const hold = (held: boolean) => void this.#door.call('playground.hold', { session, held }).catch(() => {})
    const stream = new AnswerStream(response, { head, asked, kind }, hold)
    const stop = this.#door.subscribe((event) => {
      if (event.name === 'generation' && event.data.session === session) stream.take(event.data.event)
    })
    try {
      const { answers } = await this.#door.call('playground.complete', { ...asked.request, session }, signal)
      stream.end(answers)
    } catch (thrown) {
      stream.fail(thrown)
    } finally {
      stop()
    }
  }
}

const describe = ({ id, name, createdAt }: Answerer) => ({
  id,
  object: 'model',
  created: Math.floor(createdAt / 1000),
  owned_by: 'espalier',
  name,
})

/** While the client has this many bytes still to read, the next tokens are held back. */
const mostUnread = 2 ** 20

/**
 * Sends answers token by token as server-sent events. Nothing is sent before the first token, so that an earlier failure can still be sent
 * with its own status.
 */
export class AnswerStream {
  readonly #response: ServerResponse
  readonly #context: { readonly head: Head; readonly asked: Asked; readonly kind: Kind }
  /** Number of characters sent of each answer, including an echoed prompt. */
  readonly #sent = new Map<number, number>()
  readonly #hold: (held: boolean) => void
  #isHeld = false
  #tokens = 0

  /** @param hold holds back the next events, or lets them continue */
  constructor(response: ServerResponse, context: { head: Head; asked: Asked; kind: Kind }, hold: (held: boolean) => void) {
    this.#response = response
    this.#context = context
    this.#hold = hold
  }

  take(event: GenerationEvent): void {
    if (event.type === 'scored prompt') this.#piece(event.prompt, { text: '', tokens: [], scored: event.tokens })
    else if (event.type === 'token') this.#piece(event.prompt, { text: event.token.text, tokens: [event.token], scored: [] })
    else if (event.type === 'answer' && event.problem === null) {
      this.#tokens += event.tokens.length
      // The rest was held back because it could have become a stop text, or was part of a character.
      const rest = event.text.slice(event.tokens.reduce((length, { text }) => length + text.length, 0))
      if (rest !== '') this.#piece(event.prompt, { text: rest, tokens: [], scored: [] })
      this.#open(event.prompt)
      this.#send([this.#context.kind.closing(event.prompt, finishReason(event))])
    }
  }

  end(answers: readonly Answer[]): void {
    const { asked } = this.#context
    if (asked.tellsUsage) this.#send([], usageOf(answers, asked.choices, this.#tokens))
    this.#write('[DONE]')
    this.#response.end()
  }

  /** Rethrows the error if its status can still be sent. Otherwise sends it as an event and ends the stream. */
  fail(thrown: unknown): void {
    if (!this.#response.headersSent) throw thrown
    this.#write(JSON.stringify(openAiFailure(thrown).body))
    this.#response.end()
  }

  /** Sends what begins an answer, even one that ends with its first token. */
  #open(index: number): void {
    if (this.#sent.has(index)) return
    this.#sent.set(index, 0)
    const opening = this.#context.kind.opening(index)
    if (opening !== undefined) this.#send([opening])
  }

  #piece(index: number, piece: { text: string; tokens: readonly GeneratedToken[]; scored: readonly GeneratedToken[] }): void {
    const { asked, kind } = this.#context
    this.#open(index)
    const offset = this.#sent.get(index) ?? 0
    const length = piece.scored.reduce((sum, { text }) => sum + text.length, piece.text.length)
    this.#sent.set(index, offset + length)
    this.#send([kind.piece(asked, { index, ...piece, offset })])
  }

  #send(choices: readonly unknown[], usage?: object): void {
    const { head, kind } = this.#context
    this.#write(JSON.stringify({ ...head, object: kind.streamed, choices, ...(usage ? { usage } : {}) }))
  }

  #write(data: string): void {
    if (!this.#response.headersSent)
      this.#response.writeHead(200, {
        ...securityHeaders,
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
      })
    this.#response.write(`data: ${data}\n\n`)
    if (this.#isHeld || this.#response.writableLength < mostUnread) return
    this.#isHeld = true
    this.#hold(true)
    this.#response.once('drain', () => {
      this.#isHeld = false
      this.#hold(false)
    })
  }
}
