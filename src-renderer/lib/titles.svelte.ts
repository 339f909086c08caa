import { loadCatalogue } from './catalogue.svelte.ts'
import { failureOf } from './failure.ts'
import { notifyProblem } from './notices.svelte.ts'

/** The titles of options, which a screen's tables wait for in the space that they will take, so that none first shows a raw name. */
export class Titles {
  /** Whether they are there, or could not be loaded, in which case tables show raw names. */
  settled = $state(false)
  readonly #load: () => Promise<unknown>
  #loading: Promise<void> | undefined

  constructor(load: () => Promise<unknown> = loadCatalogue) {
    this.#load = load
  }

  /** Loads them once. After a failure, the next call asks again. */
  ask(): void {
    this.#loading ??= this.#find()
  }

  async #find(): Promise<void> {
    const failure = await failureOf(this.#load)
    if (failure) {
      notifyProblem(failure)
      this.#loading = undefined
    }
    this.settled = true
  }
}
