import type { Progress } from '#contract/runs/time/progress.ts'

const windowSeconds = 5
const reportSeconds = 0.2

/** Progress over several files: `update` takes a file's bytes so far. The rate covers the last few seconds. */
export class ProgressMeter {
  readonly #phase: string
  readonly #total: number
  readonly #report: (progress: Progress) => void
  readonly #now: () => number
  readonly #files = new Map<string, number>()
  #samples: { seconds: number; received: number }[] = []
  #done = 0
  #received = 0
  #reported = Number.NEGATIVE_INFINITY

  constructor(phase: string, total: number, report: (progress: Progress) => void, now = () => performance.now() / 1000) {
    this.#phase = phase
    this.#total = total
    this.#report = report
    this.#now = now
  }

  /** Starts a file. Bytes that were on disk before the transfer count as done, but not towards the speed. */
  begin(file: string, bytes: number): void {
    this.#done += bytes - (this.#files.get(file) ?? 0)
    this.#files.set(file, bytes)
    this.#tell(true)
  }

  update(file: string, bytes: number): void {
    const change = bytes - (this.#files.get(file) ?? 0)
    this.#files.set(file, bytes)
    this.#done += change
    this.#received += Math.max(0, change)
    this.#tell(this.#done === this.#total)
  }

  #tell(always: boolean): void {
    const seconds = this.#now()
    if (!always && seconds - this.#reported < reportSeconds) return
    this.#reported = seconds
    this.#samples.push({ seconds, received: this.#received })
    this.#samples = this.#samples.filter((sample) => seconds - sample.seconds <= windowSeconds)
    this.#report({ phase: this.#phase, done: this.#done, total: this.#total, unit: 'bytes', ...this.#speed() })
  }

  #speed(): Pick<Progress, 'perSecond' | 'secondsLeft'> {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (!first || !last || last.seconds <= first.seconds) return {}
    const perSecond = (last.received - first.received) / (last.seconds - first.seconds)
    return perSecond > 0 ? { perSecond, secondsLeft: (this.#total - this.#done) / perSecond } : { perSecond }
  }
}
