import type { ChildProcess } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { connect } from '#db/database.ts'

/** Numbers from 0 to 1, the same in every test run. */
export function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

/** What must be true after any death: the database is sound, and nothing half-written has its final name. */
export function expectIntact(folder: string): void {
  const db = connect(join(folder, 'history.sqlite'))
  expect(db.pragma('integrity_check', { simple: true })).toBe('ok')
  db.close()
  for (const entry of filesIn(join(folder, 'values'))) {
    if (/^\d+-.*\.json$/.test(entry.name))
      expect(readFileSync(join(entry.parentPath, entry.name)).length).toBe(Number(entry.name.split('-')[0]))
  }
}

function filesIn(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive: true })
  } catch {
    return []
  }
}

export function printed(child: ChildProcess, word: string): Promise<void> {
  return new Promise((resolve) => {
    child.stdout?.on('data', (chunk) => String(chunk).includes(word) && resolve())
    child.on('close', () => resolve())
  })
}

/** Process numbers by parent and by a word in their command line. Works on Linux only. */
export function processesOf(parent: number | null, word: string): number[] {
  if (!existsSync('/proc')) return []
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        const [, rest] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')
        return command.includes(word) && (parent === null || Number(rest?.split(' ')[1]) === parent)
      } catch {
        return false
      }
    })
    .map(Number)
}

/** Deletes the steps of finished runs. A later run of the same request would find them all, and there would be nothing to kill. */
export function forgetSteps(folder: string): void {
  const db = connect(join(folder, 'history.sqlite'))
  try {
    db.prepare("DELETE FROM steps WHERE run IN (SELECT id FROM runs WHERE status = 'done')").run()
  } finally {
    db.close()
  }
}
