import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/**
 * The folder `resources`, two levels above this file and above its bundle. In a packaged application it is outside the archive, which the
 * compute process cannot read.
 */
export const resources = resourcesNear(import.meta.dirname)

/** @param folder of the running code */
export function resourcesNear(folder: string): string {
  return resolve(folder.replace(/([\\/])app\.asar(?=[\\/])/, '$1compute'), '..', '..', 'resources')
}

/** Whether this is the installed program, which has no sources, rather than a clone. */
export const isInstalled = !existsSync(join(resources, '..', 'src-main'))

export const sampleModelFolder = join(resources, 'sample-model')

/** The bundled sample model's folder; null if it was left out. */
export function sampleModel(): string | null {
  return existsSync(join(sampleModelFolder, 'config.json')) ? sampleModelFolder : null
}
