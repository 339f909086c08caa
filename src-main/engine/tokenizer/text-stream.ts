import type { Tokenizer } from './tokenizer.ts'

interface TextStreamOptions {
  /** Whether special tokens are left out. Default: true. */
  skipSpecial?: boolean
  /** Ids before the stream, so that a first word keeps the space before it. */
  context?: readonly number[]
}

/** Turns ids into text as they are generated, and returns only complete characters. */
export class TextStream {
  readonly #tokenizer: Tokenizer
  readonly #skipSpecial: boolean
  // Ids whose text was returned. They are kept because decoders drop the space before a first word.
  #shown: number[]
  #waiting: number[] = []
  /** Length of the returned part of the text of all these ids. */
  #given: number

  constructor(tokenizer: Tokenizer, { skipSpecial = true, context = [] }: TextStreamOptions = {}) {
    this.#tokenizer = tokenizer
    this.#skipSpecial = skipSpecial
    this.#shown = context.slice(-4)
    this.#given = this.#decode(this.#shown).length
  }

  /** Adds the next id. Returns the text that is now certain, often none. */
  push(id: number): string {
    this.#waiting.push(id)
    const text = this.#decode([...this.#shown, ...this.#waiting])
    // � at the end is a character whose last bytes are still missing.
    const certain = text.replace(/\uFFFD+$/, '')
    const fresh = certain.slice(this.#given)
    if (certain === text) this.#forget()
    else this.#given = Math.max(this.#given, certain.length)
    return fresh
  }

  /** Returns the rest at the end, with � for an incomplete character. */
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

  // Nothing is cleaned up, because that would change text that was already returned.
  #decode(ids: number[]): string {
    return this.#tokenizer.decode(ids, { skipSpecial: this.#skipSpecial, cleanUp: false })
  }
}
