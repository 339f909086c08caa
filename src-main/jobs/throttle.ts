export interface Throttle<Value> {
  /** Delivers now where the last delivery is long enough ago or the value may not wait; else the latest value follows later. */
  push(value: Value, urgent: boolean): void
  /** Delivers what waits. */
  flush(): void
  /** Forgets what waits. */
  drop(): void
}

/** Delivers at most once per interval, and always the last value: one that came too early follows when the interval is over. */
export function throttle<Value>(milliseconds: number, deliver: (value: Value) => void): Throttle<Value> {
  let deliveredAt = Number.NEGATIVE_INFINITY
  let waiting: { value: Value } | undefined
  let timer: NodeJS.Timeout | undefined

  function drop(): void {
    clearTimeout(timer)
    timer = undefined
    waiting = undefined
  }

  function flush(): void {
    const last = waiting
    drop()
    if (!last) return
    deliveredAt = performance.now()
    deliver(last.value)
  }

  return {
    flush,
    drop,
    push(value, urgent) {
      waiting = { value }
      const left = deliveredAt + milliseconds - performance.now()
      if (urgent || left <= 0) flush()
      else timer ??= setTimeout(flush, left).unref()
    },
  }
}
