import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/**
 * What comes with Espalier. It lies two levels above source and bundle alike; in a packaged application beside the archive, with the compute
 * process, which cannot read the archive.
 */
export const resources = resourcesNear(import.meta.dirname)

/** @param folder Where the running code lies. */
export function resourcesNear(folder: string): string {
  return resolve(folder.replace(/([\\/])app\.asar(?=[\\/])/, '$1compute'), '..', '..', 'resources')
}

/** Where the model that comes with Espalier belongs. */
export const sampleModelFolder = join(resources, 'sample-model')

/** The folder of that model; null where it was left out. */
export function sampleModel(): string | null {
  return existsSync(join(sampleModelFolder, 'config.json')) ? sampleModelFolder : null
}
