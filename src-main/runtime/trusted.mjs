import { createHash } from 'node:crypto'
import { chmodSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { getuid } from 'node:process'

/** What a runtime's folder says about itself; written last, so that a folder without it is not a runtime. */
export const descriptionName = 'runtime.json'

/** Bits of a mode that let the group or everybody write. */
const othersWrite = 0o022

/**
 * Why nothing of a runtime's folder may be loaded; undefined when all of it, and the folders that lead to it from the cache folder,
 * belong to this user or root and nobody else can write them. Windows, where a user's cache folder is the user's own, has no such bits.
 * @param {string} folder a runtime's folder, two levels below the cache folder
 * @returns {string | undefined}
 */
export function findStranger(folder) {
  if (!getuid) return undefined
  const us = [0, getuid()]
  for (const path of [dirname(dirname(folder)), dirname(folder), ...everythingIn(folder)]) {
    const { uid, mode } = lstatSync(path)
    if (!us.includes(uid)) return `${path} belongs to another user (number ${uid}). Delete ${folder} and set up again.`
    if (mode & othersWrite)
      return `${path} can be written by others. Run \`chmod -R go-w ${folder}\` if nobody did, or delete it, and set up again.`
  }
  return undefined
}

/**
 * Takes from others what set-up's own umask may have given them.
 * @param {string} folder a runtime's folder that set-up just made
 */
export function closeToOthers(folder) {
  if (!getuid) return
  for (const path of [dirname(dirname(folder)), dirname(folder), ...everythingIn(folder)]) {
    const { uid, mode } = lstatSync(path)
    if (uid === getuid() && mode & othersWrite) chmodSync(path, mode & ~othersWrite)
  }
}

/**
 * The path of a native addon, when its hash is the one that set-up wrote down. (TensorFlow's own libraries, 600 MB, are hashed when they
 * are made; afterwards their owner, mode and size stand for that.)
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
  try {
    const { files = [], addons = {} } = JSON.parse(readFileSync(join(folder, descriptionName), 'utf8'))
    return {
      ...Object.fromEntries(files.map((/** @type {{ path: string, sha256: string }} */ file) => [file.path, file.sha256])),
      ...addons,
    }
  } catch {
    return {}
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
 * @returns {string[]} the folder and all that is in it; links count as what they are
 */
function everythingIn(folder) {
  return [folder, ...readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name))]
}
