import type { Tokenizer } from './tokenizer.ts'

interface TextStreamOptions {
  /** Whether special tokens are left out. Default: true. */
  skipSpecial?: boolean
  /** Ids that precede the stream, so that the first word keeps the space before it. */
  context?: readonly number[]
}

/** Turns ids into text while they are generated. Returns only complete characters. */
export class TextStream {
  readonly #tokenizer: Tokenizer
  readonly #skipSpecial: boolean
  // Recent ids whose text was returned. They are decoded again with the next ids, because decoders drop the space before a first word.
  #shown: number[]
  #waiting: number[] = []
  /** How much of the text of all these ids was returned, in characters. */
  #given: number

  constructor(tokenizer: Tokenizer, { skipSpecial = true, context = [] }: TextStreamOptions = {}) {
    this.#tokenizer = tokenizer
    this.#skipSpecial = skipSpecial
    this.#shown = context.slice(-4)
    this.#given = this.#decode(this.#shown).length
  }

  /** Adds the next id. Returns the text that is now certain, which is often empty. */
  push(id: number): string {
    this.#waiting.push(id)
    const text = this.#decode([...this.#shown, ...this.#waiting])
    // A � at the end takes the place of a character whose last bytes are still missing.
    const certain = text.replace(/\uFFFD+$/, '')
    const fresh = certain.slice(this.#given)
    if (certain === text) this.#forget()
    else this.#given = Math.max(this.#given, certain.length)
    return fresh
  }

  /** Returns the text that an id would add if it came next, special tokens included, and � for the rest of a character. */
  peek(id: number): string {
    const before = [...this.#shown, ...this.#waiting]
    const given = this.#decode(before, false).replace(/\uFFFD+$/, '')
    return this.#decode([...before, id], false).slice(given.length)
  }

  /** Call it after the last id. Returns the remaining text, with � for an incomplete character. */
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

  // Decodes without clean-up of spaces, which would change text that was already returned.
  #decode(ids: number[], skipSpecial = this.#skipSpecial): string {
    return this.#tokenizer.decode(ids, { skipSpecial, cleanUp: false })
  }
}
