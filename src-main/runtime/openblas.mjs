import { join } from 'node:path'
import { arch, platform } from 'node:process'
import { findLibraries, runtimesFolder } from './places.mjs'

/** The release of the wheel scipy-openblas64 that setup installs. */
export const openblasVersion = '0.3.34.481.3'

/** The library's file on this system. */
export const openblasFile = { linux: 'libscipy_openblas64_.so', darwin: 'libscipy_openblas64_.dylib', win32: 'libscipy_openblas64_.dll' }[
  /** @type {string} */ (platform)
]

const folderName = `openblas-${openblasVersion}-${platform}-${arch}`

/** @returns {string} where setup puts OpenBLAS for this system */
export function openblasFolder() {
  return join(runtimesFolder(), folderName)
}

/** @returns {string | undefined} the folder that setup has finished, or else the one that a packaged application ships */
export function findOpenblas() {
  return findLibraries(folderName)
}
