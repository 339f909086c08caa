import { appendFileSync, closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, readSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { measureTitle, subjectTitle } from '#contract/comparison/measure-columns.ts'
import { toErrorMessage } from '#contract/errors.ts'
import { scoreOf } from '#contract/pruning/candidates.ts'
import { heldOutName } from '#contract/pruning/recovery.ts'
import type { RunEvent } from '#contract/runs/run-events.ts'
import { plural } from '#contract/words.ts'

const largestLog = 10_000_000

/** Output (stdout and stderr) of compute processes, one file per run. */
export class RunLogs {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Appends text. Ignores errors, because a failed log write must not stop a run. More important writes report a full disk. */
  append(run: string, text: string): void {
    try {
      // Not its parents: a data folder that is away for now must find its place empty when it is back.
      if (!existsSync(this.#folder)) mkdirSync(this.#folder)
      if (this.bytes(run) <= largestLog) appendFileSync(this.#fileOf(run), text, { mode: 0o600 })
    } catch {}
  }

  tail(run: string, bytes: number): { text: string; bytes: number } {
    if (!existsSync(this.#fileOf(run))) return { text: '', bytes: 0 }
    const handle = openSync(this.#fileOf(run), 'r')
    try {
      const { size } = fstatSync(handle)
      const buffer = Buffer.alloc(Math.min(bytes, size))
      const read = readSync(handle, buffer, 0, buffer.length, size - buffer.length)
      return { text: buffer.toString('utf8', 0, read), bytes: size }
    } finally {
      closeSync(handle)
    }
  }

  bytes(run: string): number {
    return statSync(this.#fileOf(run), { throwIfNoEntry: false })?.size ?? 0
  }

  usedBytes(): number {
    if (!existsSync(this.#folder)) return 0
    return readdirSync(this.#folder).reduce((sum, name) => sum + statSync(join(this.#folder, name)).size, 0)
  }

  remove(run: string): void {
    rmSync(this.#fileOf(run), { force: true })
  }

  #fileOf(run: string): string {
    return join(this.#folder, `${run}.log`)
  }
}

/** Writes a run's log: one line per event, with seconds since the attempt began. */
export class RunStory {
  readonly #append: (text: string) => void
  readonly #begun = performance.now()
  #phase = ''

  constructor(append: (text: string) => void) {
    this.#append = append
  }

  begin(attempt: number): void {
    this.#append(`--- attempt ${attempt}, ${new Date().toISOString().slice(0, 19).replace('T', ' ')} UTC\n`)
  }

  add(event: RunEvent): void {
    const line = logLine(event, this.#phase)
    if (event.type === 'progress') this.#phase = event.progress.phase
    if (line !== undefined) this.#line(line)
  }

  /** Logs the outcome. */
  end(thrown: unknown): void {
    this.#line(thrown === undefined ? 'done' : `ended: ${toErrorMessage(thrown).message}`)
  }

  #line(text: string): void {
    const seconds = ((performance.now() - this.#begun) / 1000).toFixed(1)
    this.#append(`${seconds.padStart(8)} s  ${text.replaceAll('\n', ' ')}\n`)
  }
}

const grouped = new Intl.NumberFormat('en', { maximumSignificantDigits: 5 })
const integers = new Intl.NumberFormat('en')

/** Formats a number with five significant digits, but a whole number with all digits. */
function rounded(value: number): string {
  if (Number.isInteger(value)) return integers.format(value)
  return Math.abs(value) < 1e-4 ? String(Number(value.toPrecision(5))) : grouped.format(value)
}

/** Formats a measure with its unit. */
function measured(value: number, unit: string): string {
  if (unit === 'share') return `${grouped.format(100 * value)} %`
  return unit === '' ? rounded(value) : `${rounded(value)} ${unit}`
}

/** Returns the log line of an event; undefined for events that are too frequent or too long to log. */
function logLine(event: RunEvent, phase: string): string | undefined {
  switch (event.type) {
    case 'progress':
      return event.progress.phase === phase ? undefined : `${event.progress.phase} (${event.progress.total} ${event.progress.unit})`
    case 'decision': {
      const { round, kind, block, scores, tied = [] } = event.decision
      const chosen = scores.find((score) => score.block === block)
      const score = chosen && scoreOf(chosen)
      const reason = score ? `, ${score.measure} ${rounded(score.value)}, best of ${scores.length}` : ''
      return `round ${round}: ${kind} ${block} removed${reason}${tied.length > 0 ? `, tied with ${tied.join(', ')}` : ''}`
    }
    case 'selection': {
      const { generation, tokens, candidates, fitness } = event.selection
      return `generation ${generation}: ${candidates.length} candidates on ${tokens} tokens, the best at ${rounded(Math.min(...fitness))}`
    }
    case 'width':
      return `MLP neurons kept: ${[...new Set(event.kept)].map(rounded).join(', ')} of ${rounded(event.of)}`
    case 'gates': {
      const { step, divergence, closed, reopened } = event.step
      return `step ${step}: divergence ${rounded(divergence)}, ${plural(closed, 'gate')} closed, ${reopened} reopened`
    }
    case 'spectrum':
      return undefined
    case 'neuron scores':
      return `neuron scores of ${event.cuts.length} blocks`
    case 'measure': {
      const { name, dataset, value, unit } = event.measure
      const title = measureTitle({ name, dataset })
      return `${dataset ? `${title}, ${subjectTitle(dataset)}` : title}: ${measured(value, unit === name ? '' : unit)}`
    }
    case 'recovery': {
      const { step, tokens, loss, heldOut } = event.point
      const place = step === 0 ? 'before training' : `step ${step}, ${rounded(tokens)} tokens`
      const divergence = heldOut.map((value, kind) => `${rounded(value)} on ${heldOutName(kind)}`).join(', ')
      return `recovery ${place}: ${loss === null ? '' : `loss ${rounded(loss)}, `}divergence ${divergence} nats a token`
    }
    case 'model':
      return `model ${event.fingerprint.slice(0, 16)}`
    case 'note':
      return `note: ${event.text}`
  }
}
