import Sqlite from 'better-sqlite3'

export type Database = Sqlite.Database
export type Statement = Sqlite.Statement<unknown[]>

/** How long a statement waits for another process's short transaction. A longer one is waited for without blocking this process. */
export const busyMilliseconds = 1000

/** Opens a connection with the pragmas that the history relies on. */
export function connect(file: string): Database {
  const db = new Sqlite(file, { timeout: busyMilliseconds })
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = NORMAL')
  db.pragma('foreign_keys = ON')
  db.pragma('trusted_schema = OFF')
  db.pragma('cache_size = -32000')
  return db
}

/** Runs `work` in BEGIN IMMEDIATE, so that no other process can write between a read and the write that depends on it. */
export function immediately<T>(db: Database, work: () => T): T {
  return db.inTransaction ? work() : db.transaction(work).immediate()
}

/** A file of the history that could not be written. The code is the system's. */
export class ValueFault extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** Whether waiting may help: another program holds the lock, the disk is full, or it fails. Undefined for all other errors. */
export function faultOf(thrown: unknown): 'locked' | 'full' | 'failing' | undefined {
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : ''
  if (/^SQLITE_(BUSY|LOCKED|PROTOCOL)/.test(code)) return 'locked'
  if (code === 'SQLITE_FULL') return 'full'
  if (/^SQLITE_(IOERR|READONLY|CANTOPEN)/.test(code)) return 'failing'
  if (thrown instanceof ValueFault) return /^(ENOSPC|EDQUOT)$/.test(code) ? 'full' : 'failing'
  return undefined
}
