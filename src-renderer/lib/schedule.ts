/** Calls at most once per `milliseconds`, and always once at the end. Bursts of events become one refresh. */
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

/** Calls once things have been quiet for `milliseconds`. */
export function debounce<Values extends unknown[]>(action: (...values: Values) => void, milliseconds: number): (...values: Values) => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  return (...values) => {
    clearTimeout(timer)
    timer = setTimeout(() => action(...values), milliseconds)
  }
}

/** Joins several subscriptions: what it returns ends them all. */
export function stopAll(...stops: readonly (() => unknown)[]): () => void {
  return () => {
    for (const stop of stops) stop()
  }
}
