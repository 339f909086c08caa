import { EspalierError } from '#contract/errors.ts'
import type { Database } from './database.ts'
import { immediately } from './database.ts'
import { migrations } from './migrations/index.ts'

export function schemaVersion(db: Database): number {
  return db.pragma('user_version', { simple: true }) as number
}

/** Refuses a file written by a later version, because opening it could lose data that this version does not know. */
export function refuseNewer(db: Database, steps: readonly string[] = migrations): void {
  const version = schemaVersion(db)
  if (version <= steps.length) return
  throw new EspalierError(
    'conflict',
    `The history was written by a newer Espalier (schema ${version}, but this one knows only up to ${steps.length}). Update Espalier, or choose another data folder with ESPALIER_HOME.`,
  )
}

/** Applies the missing migrations. Each is one transaction that also sets `user_version`. */
export function migrate(db: Database, steps: readonly string[] = migrations): void {
  refuseNewer(db, steps)
  for (let version = schemaVersion(db); version < steps.length; version++) {
    immediately(db, () => {
      if (schemaVersion(db) !== version) return
      db.exec(steps[version] as string)
      db.pragma(`user_version = ${version + 1}`)
    })
  }
}
