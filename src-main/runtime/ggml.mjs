import { join } from 'node:path'
import { arch, env, platform } from 'node:process'
import { findLibraries, runtimesFolder } from './places.mjs'

/** The release of node-llama-cpp's packages that setup installs: the newest that exists for every system. */
export const ggmlRelease = '3.21.1'

/** The version of ggml in that release. It fixes the signatures in `engine/backend/ggml/` and the types that exist. */
export const ggmlVersion = '0.23.0'

/**
 * @typedef {'ggml' | 'ggml-vulkan'} GgmlPart `ggml`: the libraries for processors, and for Metal on macOS; `ggml-vulkan`: that for Vulkan
 */

/** @param {GgmlPart} part */
const folderName = (part) => `${part}-${ggmlRelease}-${platform}-${arch}`

/**
 * @param {GgmlPart} [part]
 * @returns {string} where setup puts these libraries for this system
 */
export function ggmlFolder(part = 'ggml') {
  return join(runtimesFolder(), folderName(part))
}

/**
 * What `ESPALIER_VULKAN` asks for: Vulkan on (1), off (0), or as the machine suggests if it is unset.
 * @param {NodeJS.ProcessEnv} [environment]
 * @returns {'on' | 'off' | undefined}
 */
export function vulkanChoice({ ESPALIER_VULKAN: value } = env) {
  if (!value) return undefined
  if (value === '1') return 'on'
  if (value === '0') return 'off'
  throw new Error(`ESPALIER_VULKAN is "${value}"; it must be 1 to install and use Vulkan, 0 to do neither, or unset.`)
}

/**
 * @param {GgmlPart} [part]
 * @returns {string | undefined} the folder that setup has finished, or else the one that a packaged application ships. Undefined if there
 *   is none, or for Vulkan if `ESPALIER_VULKAN=0`
 */
export function findGgml(part = 'ggml') {
  if (part === 'ggml-vulkan' && vulkanChoice() === 'off') return undefined
  return findLibraries(folderName(part))
}
