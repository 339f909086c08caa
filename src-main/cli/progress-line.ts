import { stderr } from 'node:process'
import { fileSizeText } from '#contract/runs/amount-text.ts'
import { type Progress, progressAmounts } from '#contract/runs/time/progress.ts'

/** A duration for display. */
export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`
}

/** One line on stderr that is overwritten; without a terminal, a new line every few seconds. */
export class ProgressLine {
  readonly #live = stderr.isTTY === true
  #shown = false
  #phase = ''
  #last = 0

  show(progress: Progress): void {
    const now = performance.now()
    const changed = progress.phase !== this.#phase
    const ended = progress.done >= progress.total
    if (!this.#live && !changed && !ended && now - this.#last < 5000) return
    if (ended && !this.#live && !changed && now - this.#last < 1000) return
    this.#phase = progress.phase
    this.#last = now
    this.#write(describeProgress(progress))
  }

  /** Clears the line so that something else can be printed. */
  clear(): void {
    if (this.#live && this.#shown) stderr.write('\r\x1b[2K')
    this.#shown = false
  }

  #write(text: string): void {
    if (!this.#live) {
      stderr.write(`${text}\n`)
      return
    }
    stderr.write(`\r\x1b[2K${text.slice(0, (stderr.columns ?? 80) - 1)}`)
    this.#shown = true
  }
}

/** A phase in words: `Reading the model: 2.4 MB of 5.718 MB, 48.1 MB/s, 70 ms left`. */
export function describeProgress(progress: Progress): string {
  const { phase, done, total, unit, perSecond, secondsLeft } = progress
  const inBytes = unit === 'bytes'
  const amounts = progressAmounts(progress).join(' of ')
  const speed = (value: number) => (inBytes ? fileSizeText(value) : `${value >= 10 ? value.toFixed(0) : value.toFixed(2)} ${unit}`)
  const left = secondsLeft !== undefined && done < total ? `, ${duration(secondsLeft)} left` : ''
  return `${phase}: ${amounts}${inBytes ? '' : ` ${unit}`}${perSecond ? `, ${speed(perSecond)}/s` : ''}${left}`
}
