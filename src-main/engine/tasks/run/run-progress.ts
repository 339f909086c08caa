import type { Progress } from '#contract/runs/time/progress.ts'

/** Turns counts into progress reports with a rate and the remaining time, at most ten a second, and always one at the end of a phase. */
export class ProgressMeter {
  readonly #emit: (progress: Progress) => void
  #phase = ''
  #started = 0
  #startDone = 0
  #last = 0

  constructor(emit: (progress: Progress) => void) {
    this.#emit = emit
  }

  report(phase: string, done: number, total: number, unit: string): void {
    const now = performance.now()
    if (phase !== this.#phase) {
      this.#phase = phase
      this.#started = now
      this.#startDone = done
      this.#last = 0
    }
    if (now - this.#last < 100 && done < total) return
    this.#last = now
    const seconds = (now - this.#started) / 1000
    const perSecond = seconds > 0 ? (done - this.#startDone) / seconds : 0
    this.#emit({ phase, done, total, unit, ...(perSecond > 0 ? { perSecond, secondsLeft: (total - done) / perSecond } : {}) })
  }
}
