import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { cpus, homedir } from 'node:os'
import { join } from 'node:path'
import { arch, env, platform } from 'node:process'
import { chosenKernels } from './kernels.mjs'
import { descriptionName } from './trusted.mjs'

/**
 * A tensor runtime in the cache folder.
 * @typedef {{ folder: string, kind: 'gpu' | 'cpu', version: string }} Runtime
 */

/** The name of the linked addon inside a runtime's folder. */
export const addonName = 'tfjs_binding.node'

/** The first digits of the hash of all files in `engine/backend/native/`: a changed source gives the compiled library another name. */
export const fusedSource = '6a64cc81'

/**
 * The file name of the fused operations inside a runtime's folder. They are compiled for one processor, and machines that share a cache
 * folder may differ, so the name depends on it.
 * @returns {string}
 */
export function fusedName() {
  const processor = createHash('sha256').update(describeProcessor()).digest('hex').slice(0, 8)
  const kernels = chosenKernels()
  return `fused-${fusedSource}-${processor}${kernels ? `-${kernels.name}` : ''}.node`
}

function describeProcessor() {
  const model = `${arch} ${cpus()[0]?.model}`
  if (platform !== 'linux') return model
  const features = readFileSync('/proc/cpuinfo', 'utf8').match(/^(?:flags|Features)\s*:.*$/m)
  return `${model} ${features?.[0]}`
}

/**
 * The folder in the user's cache that clones and the packaged application share.
 * @returns {string}
 */
export function cacheFolder() {
  if (env.ESPALIER_CACHE) return env.ESPALIER_CACHE
  return join(userCacheFolder(), 'espalier')
}

function userCacheFolder() {
  if (platform === 'win32') return env.LOCALAPPDATA || join(homedir(), 'AppData', 'Local')
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches')
  return env.XDG_CACHE_HOME || join(homedir(), '.cache')
}

/**
 * The folder with one subfolder per tensor runtime.
 * @returns {string}
 */
export function runtimesFolder() {
  return join(cacheFolder(), 'runtime')
}

/**
 * Finds a folder of libraries by its name.
 * @param {string} name
 * @returns {string | undefined} the one that setup has finished, or else the one that a packaged application ships
 */
export function findLibraries(name) {
  const folders = [join(runtimesFolder(), name), join(import.meta.dirname, '..', '..', name)]
  return folders.find((folder) => existsSync(join(folder, descriptionName)))
}

/**
 * @param {string} version
 * @param {'gpu' | 'cpu'} kind
 * @returns {string} the folder's name, for instance `tensorflow-2.21.0-cpu-linux-x64`
 */
export function runtimeName(version, kind) {
  return `tensorflow-${version}-${kind}-${platform}-${arch}`
}

/**
 * All runtimes for this platform, best first: GPU before CPU, then newer versions.
 * @returns {Runtime[]}
 */
export function runtimeFolders() {
  const parent = runtimesFolder()
  if (!existsSync(parent)) return []
  /** @type {Runtime[]} */
  const runtimes = []
  for (const name of readdirSync(parent)) {
    const match = /^tensorflow-([0-9][^-]*)-(cpu|gpu)-(.+)$/.exec(name)
    if (!match?.[1] || match[3] !== `${platform}-${arch}`) continue
    const folder = join(parent, name)
    if (!existsSync(join(folder, descriptionName)) || !existsSync(join(folder, addonName))) continue
    runtimes.push({ folder, kind: match[2] === 'gpu' ? 'gpu' : 'cpu', version: match[1] })
  }
  return runtimes.sort((one, other) => other.kind.localeCompare(one.kind) || compareVersions(other.version, one.version))
}

/**
 * The runtime that the engine should load; undefined if setup has installed none.
 * @returns {Runtime | undefined}
 */
export function findRuntime() {
  return runtimeFolders()[0]
}

/**
 * @param {string} one
 * @param {string} other
 * @returns {number} negative when `one` is the older version
 */
export function compareVersions(one, other) {
  return one.localeCompare(other, 'en', { numeric: true })
}
