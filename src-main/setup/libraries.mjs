import { readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { arch, platform } from 'node:process'
import { closeToOthers, descriptionName, findStranger, findTrustProblem, hashOf, readDescription } from '../runtime/trusted.mjs'

/**
 * @param {string | undefined} folder
 * @returns {boolean} whether it holds just the libraries that setup put there
 */
export function areInPlace(folder) {
  if (!folder || findTrustProblem(folder) || findStranger(folder)) return false
  return (readDescription(folder)?.files ?? []).length > 0
}

/**
 * Describes the files of a folder, and moves it to its place.
 * @param {string} from
 * @param {string} to
 * @param {Record<string, string>} facts what its description says besides the files
 * @returns {number} the bytes of its files
 */
export function putInPlace(from, to, facts) {
  const files = readdirSync(from).map((path) => ({ path, size: statSync(join(from, path)).size, sha256: hashOf(join(from, path)) }))
  writeFileSync(join(from, descriptionName), `${JSON.stringify({ ...facts, platform, arch, files }, null, 2)}\n`)
  rmSync(to, { recursive: true, force: true })
  renameSync(from, to)
  closeToOthers(to)
  return files.reduce((sum, { size }) => sum + size, 0)
}
