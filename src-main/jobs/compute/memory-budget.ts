import type { MemoryWait } from '#contract/runs/queue.ts'
import { gigabytes } from './explain-exit.ts'

/** A compute process that may hold memory. */
interface Holder {
  readonly isIdle: boolean
  /** Ends the process if it is idle. The budget is told when it has ended. */
  release(): void
}

interface Claim {
  readonly holder: Holder
  readonly bytes: number
  /** The run, transcript or transfer that needs the memory, and what it is called in a sentence. */
  readonly id: string
  readonly title: string
}

interface Waiting {
  readonly claim: Claim
  readonly grant: () => void
  readonly refuse: (reason: unknown) => void
}

/**
 * Divides one amount of memory among the compute processes of a workbench. A process has one claim, which replaces its earlier one. Claims
 * that do not fit beside the others are granted in the order in which they were made, and idle processes are ended for them. What waits
 * holds nothing, so no two processes wait for each other. A claim that exceeds the whole amount is granted once nothing else is held.
 */
export class MemoryBudget {
  readonly #totalBytes: () => number
  readonly #onChange: () => void
  readonly #held = new Map<Holder, Claim>()
  #waiting: Waiting[] = []
  #told = ''

  /** @param onChange called when what waits, or its reason, has changed */
  constructor(totalBytes: () => number, onChange: () => void) {
    this.#totalBytes = totalBytes
    this.#onChange = onChange
  }

  /** What waits for memory, with the reasons in sentences. */
  get waits(): MemoryWait[] {
    return this.#waiting.map(({ claim: { id, bytes } }, place) => ({
      id,
      text: `Waiting for ${gigabytes(bytes)} of memory: ${this.#reason(place)}.`,
    }))
  }

  /**
   * Claims memory. Returns whether it was granted: if it `waits`, the process gives up its earlier claim until it is, and an abort ends
   * the wait with its reason. A claim of 0 bytes gives all back.
   */
  async claim(claim: Claim, waits: boolean, signal: AbortSignal): Promise<boolean> {
    if (claim.bytes === 0) {
      this.#held.delete(claim.holder)
      this.review()
      return true
    }
    signal.throwIfAborted()
    if (this.#waiting.length === 0 && this.#fits(claim)) {
      this.#held.set(claim.holder, claim)
      return true
    }
    if (!waits) return false
    this.#held.delete(claim.holder)
    const { promise, resolve, reject } = Promise.withResolvers<boolean>()
    const waiting: Waiting = { claim, grant: () => resolve(true), refuse: reject }
    const leave = () => this.#leave([waiting], signal.reason)
    signal.addEventListener('abort', leave)
    this.#waiting.push(waiting)
    this.review()
    return promise.finally(() => signal.removeEventListener('abort', leave))
  }

  /** Gives up all that a process holds or waits for, because it has ended. */
  free(holder: Holder): void {
    this.#held.delete(holder)
    const own = this.#waiting.filter(({ claim }) => claim.holder === holder)
    this.#leave(own, new Error('The compute process ended.'))
  }

  /** Grants what fits by now, and otherwise ends idle processes if that makes enough room. */
  review(): void {
    for (let [first] = this.#waiting; first && this.#fits(first.claim); [first] = this.#waiting) {
      this.#waiting.shift()
      this.#held.set(first.claim.holder, first.claim)
      first.grant()
    }
    const [first] = this.#waiting
    if (first) this.#makeRoom(first.claim)
    const told = JSON.stringify(this.waits)
    if (told === this.#told) return
    this.#told = told
    this.#onChange()
  }

  #leave(waiting: readonly Waiting[], reason: unknown): void {
    this.#waiting = this.#waiting.filter((one) => !waiting.includes(one))
    for (const { refuse } of waiting) refuse(reason)
    this.review()
  }

  #fits({ holder, bytes }: Claim, others = this.#othersThan(holder)): boolean {
    return others.length === 0 || sumOf(others) + bytes <= this.#totalBytes()
  }

  #makeRoom(claim: Claim): void {
    const others = this.#othersThan(claim.holder)
    if (
      !this.#fits(
        claim,
        others.filter(({ holder }) => !holder.isIdle),
      )
    )
      return
    const kept = [...others]
    for (const one of others.filter(({ holder }) => holder.isIdle)) {
      if (this.#fits(claim, kept)) return
      kept.splice(kept.indexOf(one), 1)
      one.holder.release()
    }
  }

  #othersThan(holder: Holder): Claim[] {
    return [...this.#held.values()].filter((one) => one.holder !== holder)
  }

  #reason(place: number): string {
    const held = [...this.#held.values()].filter(({ holder }) => !holder.isIdle)
    const before = this.#waiting.slice(0, place)
    const reasons = [
      ...held.map(({ title, bytes }) => `${title} holds ${gigabytes(bytes)}`),
      ...before.map(({ claim: { title, bytes } }) => `${title} waits for ${gigabytes(bytes)}`),
    ]
    return reasons.length > 0 ? reasons.join(', ') : 'an idle model is being closed'
  }
}

const sumOf = (claims: readonly Claim[]): number => claims.reduce((sum, { bytes }) => sum + bytes, 0)
