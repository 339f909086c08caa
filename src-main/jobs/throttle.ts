/** Delivers at most one value per interval. The last value is always delivered: one that comes too early, when the interval ends. */
export class Throttle<Value> {
  readonly #milliseconds: number
  readonly #deliver: (value: Value) => unknown
  #deliveredAt = Number.NEGATIVE_INFINITY
  #waiting: { value: Value } | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(milliseconds: number, deliver: (value: Value) => unknown) {
    this.#milliseconds = milliseconds
    this.#deliver = deliver
  }

  /** Delivers now if the interval is over or the value is urgent; otherwise delivers the latest value later. */
  push(value: Value, urgent: boolean): void {
    this.#waiting = { value }
    const left = this.#deliveredAt + this.#milliseconds - performance.now()
    if (urgent || left <= 0) this.flush()
    else this.#timer ??= setTimeout(() => this.flush(), left).unref()
  }

  /** Delivers the pending value. */
  flush(): void {
    const last = this.#waiting
    this.drop()
    if (!last) return
    this.#deliveredAt = performance.now()
    this.#deliver(last.value)
  }

  /** Discards the pending value. */
  drop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#waiting = undefined
  }
}
