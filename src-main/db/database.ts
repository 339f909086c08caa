import Sqlite from 'better-sqlite3'

export type Database = Sqlite.Database
export type Statement = Sqlite.Statement<unknown[]>

/** How long a statement waits while another process writes. */
const busyMilliseconds = 5000

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

/** Whether the disk, not the program, caused an error. */
export function isDiskError(thrown: unknown): boolean {
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : ''
  return /^(SQLITE_FULL|SQLITE_IOERR|SQLITE_READONLY|SQLITE_CANTOPEN|ENOSPC|EDQUOT|EROFS|EIO)/.test(code)
}
