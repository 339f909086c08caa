import type { Tokenizer } from './tokenizer.ts'

interface TextStreamOptions {
  /** Whether special tokens are left out; default true. */
  skipSpecial?: boolean
  /** Ids before the stream, so that a first word keeps the space before it. */
  context?: readonly number[]
}

/** Turns ids into text as they are generated, giving out only whole characters. */
export class TextStream {
  readonly #tokenizer: Tokenizer
  readonly #skipSpecial: boolean
  // Ids whose text has been given out, kept since decoders drop the space before a first word.
  #shown: number[]
  #waiting: number[] = []
  /** Length of the given part of the text of all these ids. */
  #given: number

  constructor(tokenizer: Tokenizer, { skipSpecial = true, context = [] }: TextStreamOptions = {}) {
    this.#tokenizer = tokenizer
    this.#skipSpecial = skipSpecial
    this.#shown = context.slice(-4)
    this.#given = this.#decode(this.#shown).length
  }

  /** Takes the next id and gives the text that is now certain, often none. */
  push(id: number): string {
    this.#waiting.push(id)
    const text = this.#decode([...this.#shown, ...this.#waiting])
    // � at the end is a character whose last bytes are yet to come.
    const certain = text.replace(/\uFFFD+$/, '')
    const fresh = certain.slice(this.#given)
    if (certain === text) this.#forget()
    else this.#given = Math.max(this.#given, certain.length)
    return fresh
  }

  /** Gives what is left at the end, with � for a character that was never finished. */
  finish(): string {
    const text = this.#decode([...this.#shown, ...this.#waiting])
    const fresh = text.slice(this.#given)
    this.#forget()
    return fresh
  }

  #forget(): void {
    if (this.#waiting.length > 0) this.#shown = this.#waiting
    this.#waiting = []
    this.#given = this.#decode(this.#shown).length
  }

  // Nothing is cleaned up, as that would change text already given out.
  #decode(ids: number[]): string {
    return this.#tokenizer.decode(ids, { skipSpecial: this.#skipSpecial, cleanUp: false })
  }
}
