import { existsSync } from 'node:fs'
import { join } from 'node:path'

/** The folder of the model that comes with Espalier; null where it was left out. The resources lie two levels above source and bundle alike. */
export function sampleModel(): string | null {
  const folder = join(import.meta.dirname, '..', '..', 'resources', 'sample-model')
  return existsSync(join(folder, 'config.json')) ? folder : null
}
