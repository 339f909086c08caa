import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** What comes with Espalier. It lies two levels above source and bundle alike. */
export const resources = resolve(import.meta.dirname, '..', '..', 'resources')

/** Where the model that comes with Espalier belongs. */
export const sampleModelFolder = join(resources, 'sample-model')

/** The folder of that model; null where it was left out. */
export function sampleModel(): string | null {
  return existsSync(join(sampleModelFolder, 'config.json')) ? sampleModelFolder : null
}
