import type { ServerResponse } from 'node:http'
import type { GeneratedToken, GenerationEvent } from '#contract/playground/generation.ts'
import { securityHeaders } from '../guard/content-policy.ts'
import { finishReason, usageOf } from './answers.ts'
import { openAiFailure } from './failure.ts'
import type { Answer, Asked, Head, Kind } from './kinds.ts'

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

  #piece(index: number, piece: { text: string; tokens: readonly GeneratedToken[]; scored: readonly GeneratedToken[] }): void {
    const { asked, kind } = this.#context
    const opening = this.#sent.has(index) ? undefined : kind.opening(index)
    if (opening !== undefined) this.#send([opening])
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
