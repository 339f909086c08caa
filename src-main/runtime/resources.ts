import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/**
 * The folder `resources`, two levels above this file and above a bundle of it. In a packaged application it is beside the archive, because
 * the compute process cannot read the archive.
 */
export const resources = resourcesNear(import.meta.dirname)

/** @param folder Where the running code lies. */
export function resourcesNear(folder: string): string {
  return resolve(folder.replace(/([\\/])app\.asar(?=[\\/])/, '$1compute'), '..', '..', 'resources')
}

/** The folder of the bundled sample model. */
export const sampleModelFolder = join(resources, 'sample-model')

/** That folder; null if the sample model was left out. */
export function sampleModel(): string | null {
  return existsSync(join(sampleModelFolder, 'config.json')) ? sampleModelFolder : null
}
