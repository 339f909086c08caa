export interface Throttle<Value> {
  /** Delivers now if the interval is over or the value is urgent; otherwise delivers the latest value later. */
  push(value: Value, urgent: boolean): void
  /** Delivers the pending value. */
  flush(): void
  /** Discards the pending value. */
  drop(): void
}

/** Delivers at most once per interval, and always the last value: an early one is delivered when the interval ends. */
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
