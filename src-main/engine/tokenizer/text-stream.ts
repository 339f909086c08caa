import type { Tokenizer } from './tokenizer.ts'

// A character takes at most four bytes, so at most four ids wait for its end.
const longestWait = 4

/** Turns ids into text as they are generated, giving out only whole characters. */
export class TextStream {
  readonly #tokenizer: Tokenizer
  readonly #skipSpecial: boolean
  #shown: number[] = []
  #waiting: number[] = []

  /** @param context ids before the stream, so that a first word keeps the space before it */
  constructor(tokenizer: Tokenizer, { skipSpecial = true, context = [] }: { skipSpecial?: boolean; context?: readonly number[] } = {}) {
    this.#tokenizer = tokenizer
    this.#skipSpecial = skipSpecial
    this.#shown = context.slice(-longestWait)
  }

  /** Takes the next id and gives the text that is now certain, often none. */
  push(id: number): string {
    this.#waiting.push(id)
    const text = this.#newText()
    if (text.endsWith('\uFFFD') && this.#waiting.length < longestWait) return ''
    this.#shown = this.#waiting.splice(0)
    return text
  }

  /** Gives what is left at the end, with � for a character that was never finished. */
  finish(): string {
    const text = this.#newText()
    this.#shown = []
    this.#waiting = []
    return text
  }

  // Decoding from a few ids before shows whether a word begins with a space: alone, decoders drop it.
  #newText(): string {
    const before = this.#decode(this.#shown)
    return this.#decode([...this.#shown, ...this.#waiting]).slice(before.length)
  }

  #decode(ids: number[]): string {
    return this.#tokenizer.decode(ids, { skipSpecial: this.#skipSpecial })
  }
}
