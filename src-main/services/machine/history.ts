import { existsSync, statSync } from 'node:fs'
import type { HistoryState } from '#contract/machine/history.ts'
import { ownedBytes } from '#contract/models/models.ts'
import { integrityProblems, listBackups, makeBackup } from '#db/backups.ts'
import { schemaVersion } from '#db/migrate.ts'
import type { Calls } from '../context.ts'
import { Service } from '../service.ts'

export class HistoryService extends Service {
  readonly calls: Omit<Calls<'history'>, 'history.restore'> = {
    'history.get': ({ check }) => this.#state(check),
    'history.removeUnknown': () => {
      this.history.values.removeUnknown(this.history.db)
      return this.#state(false)
    },
    'history.backup': () => makeBackup(this.history.db, this.history.folders.backups, 'by-hand'),
  }

  #state(check: boolean): HistoryState {
    const { db, folders, values, models, runs, settings } = this.history
    const damages = check ? integrityProblems(db, true) : []
    return {
      file: folders.file,
      bytes: sizeOf(folders.file) + sizeOf(`${folders.file}-wal`),
      stepBytes: values.usedBytes(),
      unknown: values.unknown(db),
      logBytes: this.parts.logs.usedBytes(),
      modelBytes: ownedBytes(models.list()),
      schemaVersion: schemaVersion(db),
      runs: runs.count(),
      intact: damages.length === 0,
      problems: [...settings.problems(), ...damages],
      backups: listBackups(folders.backups),
    }
  }
}

const sizeOf = (file: string): number => (existsSync(file) ? statSync(file).size : 0)
