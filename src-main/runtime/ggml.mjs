import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { arch, platform } from 'node:process'
import { runtimesFolder } from './places.mjs'
import { descriptionName } from './trusted.mjs'

/** The release of node-llama-cpp's packages that setup installs: the newest that exists for every system. */
export const ggmlRelease = '3.21.1'

/** The version of ggml in that release. It fixes the signatures in `engine/backend/ggml/` and the types that exist. */
export const ggmlVersion = '0.23.0'

const folderName = `ggml-${ggmlRelease}-${platform}-${arch}`

/** @returns {string} where setup puts the ggml and llama.cpp libraries of this system */
export function ggmlFolder() {
  return join(runtimesFolder(), folderName)
}

/** @returns {string | undefined} that folder, if setup has finished it, or the one that a packaged application ships */
export function findGgml() {
  const folders = [ggmlFolder(), join(import.meta.dirname, '..', '..', folderName)]
  return folders.find((folder) => existsSync(join(folder, descriptionName)))
}
