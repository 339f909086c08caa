import { type ErrorMessage, toErrorMessage } from '#contract/errors.ts'

/** Holds the latest loaded value, whether a newer one is loading, and what went wrong. A late answer never replaces a newer one. */
export class Loader<Value> {
  value = $state.raw<Value | null>(null)
  problem = $state.raw<ErrorMessage | null>(null)
  busy = $state(false)
  #latest = 0

  async load(fetch: () => Promise<Value>): Promise<Value | null> {
    this.#latest += 1
    const turn = this.#latest
    this.busy = true
    try {
      const value = await fetch()
      if (turn !== this.#latest) return this.value
      this.value = value
      this.problem = null
    } catch (thrown) {
      if (turn === this.#latest) this.problem = toErrorMessage(thrown)
    } finally {
      if (turn === this.#latest) this.busy = false
    }
    return this.value
  }
}
