import { EspalierError } from '#contract/errors.ts'
import { type Database, immediately } from './database.ts'
import { listChanges, schema } from './schema.ts'

/** The version of the first schema. Earlier ones were never released. */
const firstVersion = 18

/**
 * The first schema and its changes, in order: the first makes a new history of version 18, the next one version 19, and so on. Add a change
 * at the end, and never change a released one.
 */
export const migrations: readonly string[] = [
  schema,
  'ALTER TABLE run_documents ADD COLUMN mixed TEXT',
  'ALTER TABLE run_documents ADD COLUMN ranking TEXT',
  listChanges,
]

/** The version of a history after all migrations. */
export const latestVersion = (steps: readonly string[] = migrations): number => firstVersion - 1 + steps.length

export function schemaVersion(db: Database): number {
  return db.pragma('user_version', { simple: true }) as number
}

/** Refuses a file written by a later version, because opening it could lose data that this version does not know, and by one before release. */
export function refuseUnknown(db: Database, steps: readonly string[] = migrations): void {
  const version = schemaVersion(db)
  if (version > latestVersion(steps))
    throw new EspalierError(
      'conflict',
      `The history was written by a newer Espalier (schema ${version}, but this one knows only up to ${latestVersion(steps)}). Update Espalier, or choose another data folder with ESPALIER_HOME.`,
    )
  if (version > 0 && version < firstVersion)
    throw new EspalierError(
      'conflict',
      `The history was written before the first release (schema ${version}; the oldest that can be opened is ${firstVersion}). Choose another data folder with ESPALIER_HOME.`,
    )
}

/** Applies the missing migrations. Each is one transaction that also sets `user_version`. */
export function migrate(db: Database, steps: readonly string[] = migrations): void {
  refuseUnknown(db, steps)
  for (let version = Math.max(schemaVersion(db), firstVersion - 1); version < latestVersion(steps); version++) {
    immediately(db, () => {
      if (schemaVersion(db) > version) return
      db.exec(steps[version - firstVersion + 1] as string)
      db.pragma(`user_version = ${version + 1}`)
    })
  }
}
