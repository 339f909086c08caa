import type { Context } from '../context.ts'
import type { Transfers } from '../models/transfers.ts'

const heartbeatMilliseconds = 5000
const watchMilliseconds = 500
/** A turn that comes this late means that this process was stopped, for example while the computer slept. */
const sleptMilliseconds = 30_000
/** After waking, other processes get this long to wake too before their silence counts as death. */
const wakingMilliseconds = 60_000

/**
 * Updates this process's heartbeat, cleans up after dead processes, and reacts to what other processes wrote. A turn that the history refuses
 * is skipped, because the next one does the same.
 */
export class WatchOthers {
  readonly #context: Pick<Context, 'history' | 'queue' | 'owner' | 'emit'>
  readonly #transfers: Transfers
  readonly #timer: NodeJS.Timeout
  #seen = -1
  #listChanges: number | undefined
  #beatAt = 0
  #lookedAt = Date.now()

  constructor(context: Pick<Context, 'history' | 'queue' | 'owner' | 'emit'>, transfers: Transfers) {
    this.#context = context
    this.#transfers = transfers
    const { writes } = context.history
    writes.onChange(() => {
      if (writes.obstacle !== null) return
      this.#bePatient()
      this.#look()
    })
    this.#look()
    this.#timer = setInterval(() => this.#look(), watchMilliseconds)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const { history, queue } = this.#context
    const now = Date.now()
    if (now - this.#lookedAt > sleptMilliseconds) this.#bePatient()
    this.#lookedAt = now
    history.writes.checkPlace()
    history.writes.attempt(() => {
      if (now - this.#beatAt > heartbeatMilliseconds || now < this.#beatAt) this.#beat(now)
      const version = history.version()
      if (version === this.#seen) return
      this.#seen = version
      this.#tellLists()
      queue.obeyOtherProcesses()
      queue.work()
      queue.tellRuns([])
    })
  }

  #tellLists(): void {
    const { history, emit } = this.#context
    const count = history.listChanges()
    if (this.#listChanges !== undefined && count !== this.#listChanges) emit({ name: 'history changed', data: {} })
    this.#listChanges = count
  }

  #bePatient(): void {
    this.#context.history.owners.patientUntil = Date.now() + wakingMilliseconds
  }

  #beat(now: number): void {
    const { history, queue, owner } = this.#context
    history.owners.keep(owner, now)
    this.#beatAt = now
    const orphans = history.queue.interruptOrphans(history.owners.dead(now), now)
    this.#transfers.closeOrphans()
    if (orphans.length > 0) queue.tellRuns(orphans.map(({ number }) => number))
    queue.takeUp()
    queue.work()
  }
}
