/** Ends text at the first of several stop texts. Characters that may begin a stop text are held back until more text arrives. */
export class StopText {
  readonly #stops: readonly string[]
  #held = ''

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** Adds the next piece. Returns the text that is now certain. */
  push(piece: string): { text: string; stopped: boolean } {
    const whole = this.#held + piece
    const places = this.#stops.map((stop) => whole.indexOf(stop)).filter((place) => place >= 0)
    const stopped = places.length > 0
    const certain = stopped ? Math.min(...places) : whole.length - this.#unsure(whole)
    this.#held = stopped ? '' : whole.slice(certain)
    return { text: whole.slice(0, certain), stopped }
  }

  /** Returns the text that is still held back at the end. */
  finish(): string {
    const text = this.#held
    this.#held = ''
    return text
  }

  /** The number of characters at the end of a text that may begin a stop text. */
  #unsure(text: string): number {
    const longest = (stop: string): number => {
      for (let length = Math.min(stop.length - 1, text.length); length > 0; length--)
        if (text.endsWith(stop.slice(0, length))) return length
      return 0
    }
    return Math.max(0, ...this.#stops.map(longest))
  }
}
