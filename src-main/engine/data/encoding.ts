import { setImmediate as breathe } from 'node:timers/promises'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { separator } from './source.ts'

export interface EncodingReport {
  /** Receives the tokens so far, and about how many there will be in total. */
  progress?(done: number, total: number): void
  readonly signal?: AbortSignal
}
// Text is encoded whenever this many characters are waiting, so that reading stops soon after there are enough tokens.
const fewestWaiting = 65536
const pauseMilliseconds = 100

/** Encodes documents, joined by two newlines, into one sequence of ids. Stops once there are at least `needed` ids. */
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
      // Following text may change the last piece, so it waits. The other pieces get the ids that they have in the whole text.
      const pieces = this.#tokenizer.split(waiting)
      waiting = pieces.pop()
      encodeFrom = Math.max(fewestWaiting, 2 * (waiting?.length ?? 0))
      await this.#encode(pieces, false)
      if (this.#ids.length >= this.#needed) return this.#ids
    }
    await this.#encode(this.#tokenizer.split(waiting ?? ''), true)
    return this.#ids
  }

  /** Encodes pieces until there are enough ids. If `isLast`, no more text follows, so the total can be reported. */
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

  /** Lets other work run, and reports progress if the total is known. */
  async #pause(charactersLeft: number | undefined): Promise<void> {
    await breathe()
    this.#report.signal?.throwIfAborted()
    const done = this.#ids.length
    const expected = charactersLeft === undefined ? Number.POSITIVE_INFINITY : Math.round(done * (1 + charactersLeft / this.#characters))
    const total = Math.min(this.#needed, expected)
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
