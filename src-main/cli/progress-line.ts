import { stderr } from 'node:process'
import { fileSizeText } from '#contract/runs/amount-text.ts'
import { type Progress, progressAmounts } from '#contract/runs/time/progress.ts'
import { secondsText } from '#contract/runs/time/seconds-text.ts'
import { printable } from './commands/output/print.ts'

/** One line on stderr that is overwritten; without a terminal, a new line for each phase, every few seconds, and at its end. */
export class ProgressLine {
  readonly #live = stderr.isTTY === true
  #shown = false
  #phase = ''
  #last = 0

  show(progress: Progress): void {
    const now = performance.now()
    // Many short phases would otherwise print two lines each.
    const pause = progress.done >= progress.total ? 1000 : 5000
    if (!this.#live && progress.phase === this.#phase && now - this.#last < pause) return
    this.#phase = progress.phase
    this.#last = now
    this.#write(printable(describeProgress(progress)))
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
  const left = secondsLeft !== undefined && done < total ? `, ${secondsText(secondsLeft)} left` : ''
  return `${phase}: ${amounts}${inBytes ? '' : ` ${unit}`}${perSecond ? `, ${speed(perSecond)}/s` : ''}${left}`
}
