import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../runtime/node24.mjs'

/**
 * A package in the lock file. A link points to a folder of the checkout that replaces the package.
 * @typedef {{ version: string, license?: string, dependencies?: Record<string, string>, optionalDependencies?: Record<string, string>,
 *   link?: boolean, resolved?: string }} Locked
 */

/** An empty replacement for packages that only an install script would load. It is not shipped. */
const nothing = 'src-main/setup/packages/nothing'

/**
 * Returns the shipped packages: the named ones and all their dependencies.
 * @param {Record<string, Locked>} locked the lock file's packages by path
 * @param {readonly string[]} names
 * @returns {Map<string, Locked>} by path
 */
export function shippedPackages(locked, names) {
  /** @type {Map<string, Locked>} */
  const found = new Map()
  /** @param {string} name @param {string} from path of the importing package */
  const walk = (name, from) => {
    const place = placeOf(locked, name, from)
    if (!place || found.has(place) || locked[place]?.resolved === nothing) return
    const entry = followLink(locked, place)
    if (!entry) return
    found.set(place, entry)
    for (const next of Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })) walk(next, place)
  }
  for (const name of names) walk(name, '')
  return found
}

/** @returns {Map<string, Locked>} everything shipped: the program's packages, Electron, and the screens' packages */
export function allShipped() {
  const { dependencies, optionalDependencies } = lockedPackages()[''] ?? {}
  const names = [...Object.keys({ ...dependencies, ...optionalDependencies }), 'electron', ...screenPackages()]
  return shippedPackages(lockedPackages(), names)
}

/** @returns {Record<string, Locked>} */
export function lockedPackages() {
  return JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
}

/** @param {Record<string, Locked>} locked @param {string} place */
function followLink(locked, place) {
  const entry = locked[place]
  return entry?.link ? locked[entry.resolved ?? ''] : entry
}

/**
 * Returns the path where Node finds a package imported from `from`: inside that package, or in a folder around it.
 * @param {Record<string, Locked>} locked
 * @param {string} name
 * @param {string} from
 * @returns {string | undefined}
 */
function placeOf(locked, name, from) {
  const place = `${from ? `${from}/` : ''}node_modules/${name}`
  if (locked[place] || from === '') return locked[place] ? place : undefined
  return placeOf(locked, name, from.slice(0, Math.max(0, from.lastIndexOf('/node_modules/'))))
}

/** @returns {string[]} packages that the screens import by name */
function screenPackages() {
  const folder = join(root, 'src-renderer')
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => /\.(ts|svelte)$/.test(name))
  const names = files.flatMap((file) =>
    [...readFileSync(join(folder, file), 'utf8').matchAll(/from '((?:@[\w-]+\/)?[a-z][\w-]*)/g)].map((match) => match[1] ?? ''),
  )
  return [...new Set(names)]
}
