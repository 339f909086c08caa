// Gives an Electron 33 what the program expects of the newer one that ships: two functions of the language, and Node-API 10.
import { join } from 'node:path'
import process from 'node:process'

URL.parse ??= (address, base) => (URL.canParse(address, base) ? new URL(address, base) : null)
const asHex = (/** @type {string} */ character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
RegExp.escape ??= (text) => text.replace(/[!-/:-@[-`{-~]/g, asHex)

const here = import.meta.dirname
const { dlopen } = process
/** RTLD_LAZY and RTLD_GLOBAL: later addons find the functions of this one. */
const forLaterAddons = 0x101
dlopen.call(process, { exports: {} }, join(here, 'references.node'), forLaterAddons)
process.dlopen = (module, file, ...flags) => {
  const isDatabase = /better-sqlite3[\\/]prebuilds/.test(file)
  return dlopen.call(process, module, isDatabase ? join(here, 'better-sqlite3.node') : file, ...flags)
}
