/** Ends several subscriptions at once. */
export function stopAll(stops: readonly (() => unknown)[]): void {
  for (const stop of stops) stop()
}
