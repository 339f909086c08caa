import type { Context } from '../context.ts'
import type { Transfers } from '../models/transfers.ts'

const heartbeatMilliseconds = 5000
const watchMilliseconds = 500

/** Updates this process's heartbeat, cleans up after dead processes, and reacts to what other processes wrote. */
export class WatchOthers {
  readonly #context: Pick<Context, 'history' | 'queue' | 'owner'>
  readonly #transfers: Transfers
  readonly #timer: NodeJS.Timeout
  #seen: number
  #beatAt = 0

  constructor(context: Pick<Context, 'history' | 'queue' | 'owner'>, transfers: Transfers) {
    this.#context = context
    this.#transfers = transfers
    this.#seen = context.history.version()
    this.#look()
    this.#timer = setInterval(() => this.#lookPatiently(), watchMilliseconds)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Logs an error instead of throwing it: a full disk may have space again at the next turn, and skipping one turn does no harm. */
  #lookPatiently(): void {
    try {
      this.#look()
    } catch (thrown) {
      console.error(thrown instanceof Error ? thrown.message : thrown)
    }
  }

  #look(): void {
    const { history, queue } = this.#context
    const now = Date.now()
    if (now - this.#beatAt > heartbeatMilliseconds) this.#beat(now)
    const version = history.version()
    if (version === this.#seen) return
    this.#seen = version
    queue.heedOthers()
    queue.work()
    queue.tellRuns([])
  }

  #beat(now: number): void {
    const { history, queue, owner } = this.#context
    this.#beatAt = now
    if (!history.owners.beat(owner, now)) history.owners.register(owner, now)
    const orphans = history.queue.interruptOrphans(history.owners.dead(now), now)
    this.#transfers.closeOrphans()
    if (orphans.length > 0) queue.tellRuns(orphans.map(({ number }) => number))
    queue.takeUp()
    queue.work()
  }
}
