/** Joins several subscriptions: what it returns ends them all. */
export function stopAll(...stops: readonly (() => unknown)[]): () => void {
  return () => {
    for (const stop of stops) stop()
  }
}
