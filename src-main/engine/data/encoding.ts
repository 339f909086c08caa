import { setImmediate as breathe } from 'node:timers/promises'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'

export interface EncodingReport {
  /** Tokens so far, and about how many in total. */
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}

/** The separator between documents. */
const separator = '\n\n'
// Text is encoded once this many characters are waiting, so that reading stops soon after there are enough tokens.
const fewestWaiting = 65536
const pauseMilliseconds = 100

/** Encodes documents, joined by two newlines, into one run of ids: all of them, or at least `needed` if there are that many. */
export class Encoding {
  readonly #tokenizer: Tokenizer
  readonly #needed: number
  readonly #report: EncodingReport
  readonly #ids: number[] = []
  #characters = 0
  #pausedAt = performance.now()

  constructor(tokenizer: Tokenizer, needed: number, { report = {} }: { report?: EncodingReport }) {
    this.#tokenizer = tokenizer
    this.#needed = needed
    this.#report = report
  }

  async take(documents: AsyncIterable<string>): Promise<number[]> {
    let waiting: string | undefined
    let encodeFrom = fewestWaiting
    for await (const { document, isLast } of markLast(documents)) {
      waiting = waiting === undefined ? document : waiting + separator + document
      if (isLast || waiting.length < encodeFrom) continue
      // More text may follow, so the last piece waits. What is encoded now equals what the whole text would give.
      const pieces = this.#tokenizer.split(waiting)
      waiting = pieces.pop()
      encodeFrom = Math.max(fewestWaiting, 2 * (waiting?.length ?? 0))
      await this.#encode(pieces, false)
      if (this.#ids.length >= this.#needed) return this.#ids
    }
    await this.#encode(this.#tokenizer.split(waiting ?? ''), true)
    return this.#ids
  }

  /** Encodes pieces until there are enough ids. `isLast` says that no text follows, so its length is all that remains. */
  async #encode(pieces: readonly string[], isLast: boolean): Promise<void> {
    let left = pieces.reduce((sum, { length }) => sum + length, 0)
    for (const piece of pieces) {
      for (const id of this.#tokenizer.encode(piece)) this.#ids.push(id)
      this.#characters += piece.length
      left -= piece.length
      if (this.#ids.length >= this.#needed) return
      if (performance.now() - this.#pausedAt >= pauseMilliseconds) await this.#pause(isLast ? left : undefined)
    }
  }

  /** Lets others run, and reports progress if it is known. */
  async #pause(charactersLeft: number | undefined): Promise<void> {
    await breathe()
    this.#report.signal?.throwIfAborted()
    const done = this.#ids.length
    const whole = charactersLeft === undefined ? Number.POSITIVE_INFINITY : Math.round(done * (1 + charactersLeft / this.#characters))
    const total = Math.min(this.#needed, whole)
    if (Number.isFinite(total)) this.#report.progress?.(done, total)
    this.#pausedAt = performance.now()
  }
}

async function* markLast(documents: AsyncIterable<string>): AsyncGenerator<{ document: string; isLast: boolean }> {
  let before: string | undefined
  for await (const document of documents) {
    if (before !== undefined) yield { document: before, isLast: false }
    before = document
  }
  if (before !== undefined) yield { document: before, isLast: true }
}
