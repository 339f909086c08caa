import { existsSync, statSync } from 'node:fs'
import type { HistoryState } from '#contract/runs/history.ts'
import { integrityProblems, listBackups, makeBackup } from '#db/backups.ts'
import { schemaVersion } from '#db/migrate.ts'
import type { Context, Service } from '../context.ts'

export function historyService({ history, logs }: Pick<Context, 'history' | 'logs'>): Omit<Service<'history'>, 'history.restore'> {
  const { db, folders } = history
  const sizeOf = (file: string) => (existsSync(file) ? statSync(file).size : 0)

  function state(check: boolean): HistoryState {
    const problems = check ? integrityProblems(db, true) : []
    return {
      file: folders.file,
      bytes: sizeOf(folders.file) + sizeOf(`${folders.file}-wal`),
      stepBytes: history.values.usedBytes(),
      logBytes: logs.usedBytes(),
      modelBytes: history.models.list().reduce((sum, { bytes }) => sum + bytes, 0),
      schemaVersion: schemaVersion(db),
      runs: history.runs.count(),
      intact: problems.length === 0,
      problems,
      backups: listBackups(folders.backups),
    }
  }

  return { 'history.get': ({ check }) => state(check), 'history.backup': () => makeBackup(db, folders.backups, 'by-hand') }
}
