/** Returns a function that runs the action at most once per `milliseconds`, and always after its last call. */
export function coalesce(action: () => void, milliseconds: number): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let last = 0
  return () => {
    if (timer !== undefined) return
    const wait = Math.max(0, last + milliseconds - Date.now())
    timer = setTimeout(() => {
      timer = undefined
      last = Date.now()
      action()
    }, wait)
  }
}

/** Returns a function that runs the action when it has not been called for `milliseconds`. */
export function debounce<Values extends unknown[]>(action: (...values: Values) => void, milliseconds: number): (...values: Values) => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  return (...values) => {
    clearTimeout(timer)
    timer = setTimeout(() => action(...values), milliseconds)
  }
}

/** One piece of work at a time: to begin the next one stops the one before, whose answer would come too late. */
export class Latest {
  #current = new AbortController()

  begin(): AbortSignal {
    this.stop()
    this.#current = new AbortController()
    return this.#current.signal
  }

  stop(): void {
    this.#current.abort()
  }
}

/** Joins the functions that end subscriptions into one. */
export function stopAll(...stops: readonly (() => unknown)[]): () => void {
  return () => {
    for (const stop of stops) stop()
  }
}
