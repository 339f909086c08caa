import { chmodSync, readFileSync, writeFileSync } from 'node:fs'

/** Electron's fuses follow this mark in its program: a byte for their version, one for their number, and one digit for each. */
const mark = 'dL7pKGdnNz796PbbjQWNKmHXBZaB9tsX'

/** In the order of that version. */
const names = /** @type {const} */ ([
  'runAsNode',
  'enableCookieEncryption',
  'enableNodeOptionsEnvironmentVariable',
  'enableNodeCliInspectArguments',
  'enableEmbeddedAsarIntegrityValidation',
  'onlyLoadAppFromAsar',
  'loadBrowserProcessSpecificV8Snapshot',
  'grantFileProtocolExtraPrivileges',
])

/** @typedef {typeof names[number]} Fuse */

/**
 * The fuses of what is shipped. They turn off what would make Electron a Node for any program, and let it load only the packed archive.
 * @type {Readonly<Record<Fuse, boolean>>}
 */
export const shippedFuses = {
  runAsNode: false,
  enableCookieEncryption: true,
  enableNodeOptionsEnvironmentVariable: false,
  enableNodeCliInspectArguments: false,
  enableEmbeddedAsarIntegrityValidation: true,
  onlyLoadAppFromAsar: true,
  loadBrowserProcessSpecificV8Snapshot: false,
  grantFileProtocolExtraPrivileges: false,
}

/**
 * Sets fuses in an Electron program. Throws if it has none.
 * @param {string} program
 * @param {Partial<Record<Fuse, boolean>>} fuses
 */
export function setFuses(program, fuses) {
  const bytes = readFileSync(program)
  const first = findFuses(bytes, program)
  for (const [name, value] of Object.entries(fuses)) bytes.write(value ? '1' : '0', first + names.indexOf(/** @type {Fuse} */ (name)))
  writeFileSync(program, bytes)
  chmodSync(program, 0o755)
}

/** @param {string} program @returns {Record<string, boolean>} */
export function readFuses(program) {
  const bytes = readFileSync(program)
  const first = findFuses(bytes, program)
  return Object.fromEntries(names.map((name, index) => [name, bytes.toString('latin1', first + index, first + index + 1) === '1']))
}

/** @param {Buffer} bytes @param {string} program */
function findFuses(bytes, program) {
  const at = bytes.indexOf(mark)
  const first = at + mark.length + 2
  if (at < 0 || bytes[first - 2] !== 1 || (bytes[first - 1] ?? 0) < names.length)
    throw new Error(`${program} has no fuses of version 1 with at least ${names.length} digits. Is it Electron 33 or later?`)
  return first
}
