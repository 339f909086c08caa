import { appendFileSync, closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, readSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

const largestLog = 10_000_000

/** Output (stdout and stderr) of compute processes, one file per run. */
export function runLogs(folder: string) {
  const fileOf = (run: string) => join(folder, `${run}.log`)
  return {
    /** A failed log write must not stop a run; a full disk is reported by more important writes. */
    append(run: string, text: string): void {
      try {
        mkdirSync(folder, { recursive: true })
        if (existsSync(fileOf(run)) && statSync(fileOf(run)).size > largestLog) return
        appendFileSync(fileOf(run), text, { mode: 0o600 })
      } catch {}
    },
    tail(run: string, bytes: number): { text: string; bytes: number } {
      if (!existsSync(fileOf(run))) return { text: '', bytes: 0 }
      const handle = openSync(fileOf(run), 'r')
      try {
        const { size } = fstatSync(handle)
        const buffer = Buffer.alloc(Math.min(bytes, size))
        const read = readSync(handle, buffer, 0, buffer.length, size - buffer.length)
        return { text: buffer.toString('utf8', 0, read), bytes: size }
      } finally {
        closeSync(handle)
      }
    },
    bytes: (run: string) => (existsSync(fileOf(run)) ? statSync(fileOf(run)).size : 0),
    usedBytes: () => (existsSync(folder) ? readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0) : 0),
    remove: (run: string) => rmSync(fileOf(run), { force: true }),
  }
}

export type RunLogs = ReturnType<typeof runLogs>
