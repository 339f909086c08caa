import { appendFileSync, closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, readSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

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
