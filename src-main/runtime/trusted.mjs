import { createHash } from 'node:crypto'
import { chmodSync, lstatSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { getuid } from 'node:process'

/** A runtime's description. It is written last, so a folder without it is not a runtime. */
export const descriptionName = 'runtime.json'

/**
 * The content of every description: the files of the folder, and in `addons` the hashes of files that were compiled later.
 * @typedef {{ version: string, files: { path: string, size: number, sha256: string }[], addons?: Record<string, string>,
 *   kind?: 'gpu' | 'cpu', binding?: string }} Description
 */

/** Mode bits that let the group or others write. */
const othersWrite = 0o022

/**
 * Returns the reason why nothing in a runtime's folder may be loaded, or undefined if it is safe. It is safe if the folder, its content and
 * its parents up to the cache folder belong to this user or root, and no other user can write to them. Windows has no such bits, but a
 * user's cache folder there is private.
 * @param {string} folder a runtime's folder, two levels below the cache folder
 * @returns {string | undefined}
 */
export function findTrustProblem(folder) {
  if (!getuid) return undefined
  const trustedUsers = [0, getuid()]
  const links = [dirname(dirname(folder)), dirname(folder), folder].filter((path) => lstatSync(path).isSymbolicLink())
  for (const path of [...links, ...everythingTrusted(folder)]) {
    const { uid, mode } = lstatSync(path)
    if (!trustedUsers.includes(uid)) return `${path} belongs to another user (uid ${uid}). Delete ${folder} and run setup again.`
    // The mode of a link means nothing. What it leads to is checked instead.
    if (mode & othersWrite && !links.includes(path))
      return `${path} can be written by other users. If it is unchanged, run \`chmod -R go-w ${folder}\`; otherwise delete the folder. Then run setup again.`
  }
  return undefined
}

/**
 * Returns the reason why a runtime's folder is not what setup made, or undefined if it is: a file that setup did not list, which the system
 * could load instead of its own library of that name, or a listed file that is missing or has another size.
 * @param {string} folder
 * @param {string} [inside] checks only the files in this subfolder
 * @returns {string | undefined}
 */
export function findStranger(folder, inside = '') {
  const listed = new Map((readDescription(folder)?.files ?? []).map(({ path, size }) => [join(path), size]))
  const names = readdirSync(join(folder, inside), { recursive: true, encoding: 'utf8' }).map((name) => join(inside, name))
  const strange = names.find((name) => name !== descriptionName && !listed.has(name) && !lstatSync(join(folder, name)).isDirectory())
  if (strange !== undefined) return `${join(folder, strange)} is not a file that setup installed.`
  const changed = [...listed].find(
    ([name, size]) => name.startsWith(inside) && lstatSync(join(folder, name), { throwIfNoEntry: false })?.size !== size,
  )
  return changed && `${join(folder, changed[0])} is not the file that setup installed.`
}

/**
 * Removes write permission for others, which the umask during setup may have granted.
 * @param {string} folder a runtime's folder that setup just created
 */
export function closeToOthers(folder) {
  if (!getuid) return
  for (const path of everythingTrusted(folder)) {
    const { uid, mode } = lstatSync(path)
    if (uid === getuid() && mode & othersWrite) chmodSync(path, mode & ~othersWrite)
  }
}

/**
 * Returns the path of a library or addon, or undefined unless its hash is the one that setup recorded. (TensorFlow's own libraries, 600 MB,
 * are hashed only when they are created. After that, owner, mode and size are checked.)
 * @param {string} folder
 * @param {string} name
 * @returns {string | undefined}
 */
export function trustedAddon(folder, name) {
  const path = join(folder, name)
  const expected = addonHashes(folder)[name]
  return expected !== undefined && expected === hashOf(path) ? path : undefined
}

/**
 * @param {string} folder
 * @returns {Record<string, string>} name to sha256
 */
function addonHashes(folder) {
  const { files = [], addons = {} } = readDescription(folder) ?? {}
  return { ...Object.fromEntries(files.map(({ path, sha256 }) => [path, sha256])), ...addons }
}

/**
 * The parsed description of a runtime's folder; undefined if it is missing or damaged.
 * @param {string} folder
 * @returns {Description | undefined}
 */
export function readDescription(folder) {
  try {
    const description = JSON.parse(readFileSync(join(folder, descriptionName), 'utf8'))
    return Array.isArray(description.files) ? description : undefined
  } catch {
    return undefined
  }
}

/** @param {string} path */
export function hashOf(path) {
  try {
    return createHash('sha256').update(readFileSync(path)).digest('hex')
  } catch {
    return undefined
  }
}

/**
 * @param {string} folder
 * @returns {string[]} the real folder, everything in it, and its parents up to the cache folder; links inside are not followed
 */
function everythingTrusted(folder) {
  const real = realpathSync(folder)
  const inside = readdirSync(real, { recursive: true, encoding: 'utf8' }).map((name) => join(real, name))
  return [dirname(dirname(real)), dirname(real), real, ...inside]
}
