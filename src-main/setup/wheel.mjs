import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { extractEntry, listZip, readEntry } from './zip.mjs'

/**
 * An opened wheel: its files, and what its RECORD says each of them must be.
 * @typedef {{ path: string, entries: import('./zip.mjs').ZipEntry[], record: Map<string, { sha256: string, size: number }> }} Wheel
 */

/**
 * @param {string} path
 * @returns {Wheel}
 */
export function openWheel(path) {
  const entries = listZip(path)
  return { path, entries, record: parseRecord(readInfo({ path, entries }, 'RECORD')) }
}

/**
 * A file of the wheel's `.dist-info` folder, as text.
 * @param {Pick<Wheel, 'path' | 'entries'>} wheel
 * @param {string} name
 * @returns {string}
 */
export function readInfo(wheel, name) {
  const entry = wheel.entries.find((one) => one.name.endsWith(`.dist-info/${name}`))
  if (!entry) throw new Error(`${wheel.path} has no ${name}: it is not a wheel.`)
  return readEntry(wheel.path, entry).toString('utf8')
}

/**
 * @param {string} text a RECORD: name, hash and size on each line; the hash in base64 without padding
 * @returns {Map<string, { sha256: string, size: number }>}
 */
export function parseRecord(text) {
  /** @type {Map<string, { sha256: string, size: number }>} */
  const files = new Map()
  for (const line of text.split(/\r?\n/)) {
    const match = /^"?(.+?)"?,sha256=([\w-]+),(\d+)$/.exec(line)
    if (match?.[1] && match[2]) files.set(match[1], { sha256: Buffer.from(match[2], 'base64url').toString('hex'), size: Number(match[3]) })
  }
  return files
}

/**
 * The version in a wheel's METADATA.
 * @param {string} metadata
 * @returns {string}
 */
export function wheelVersion(metadata) {
  const version = /^Version: *(\d[\w.]*)/m.exec(metadata)?.[1]
  if (!version) throw new Error('The wheel names no version.')
  return version
}

/**
 * Writes one file of the wheel and compares it with RECORD; under its name only when it is whole.
 * @param {Wheel} wheel
 * @param {import('./zip.mjs').ZipEntry} entry
 * @param {string} target
 * @param {(bytes: number) => void} [onBytes]
 * @returns {Promise<void>}
 */
export async function extractVerified(wheel, entry, target, onBytes) {
  const partial = `${target}.part`
  mkdirSync(dirname(target), { recursive: true })
  const written = await extractEntry(wheel.path, entry, partial, onBytes)
  const expected = wheel.record.get(entry.name)
  if (!expected || written.size !== expected.size || written.sha256 !== expected.sha256) {
    rmSync(partial, { force: true })
    throw new Error(`${entry.name} is not what ${wheel.path} says it is: ${written.size} bytes, ${expected?.size ?? 'none'} expected.`)
  }
  renameSync(partial, target)
}

const library = /^tensorflow\/(libtensorflow_(?:cc|framework)\.(?:so\.2|2\.dylib))$/
const header = /^tensorflow\/include\/(?:tensorflow\/c\/.*|.*\/(?:ctstring|tsl_status)\w*)\.h$/
const cuda = /^nvidia\/(?:\w+\/lib\/[^/]+\.so[^/]*|cuda_nvcc\/bin\/ptxas|cuda_nvcc\/nvvm\/libdevice\/[^/]+\.bc)$/

/**
 * The few files of a wheel that are needed, by what they are for, with where they go.
 * @param {Wheel} wheel
 * @returns {{ libraries: Wanted[], headers: Wanted[], cuda: Wanted[] }}
 * @typedef {{ entry: import('./zip.mjs').ZipEntry, place: string }} Wanted
 */
export function neededFiles(wheel) {
  const matching = (/** @type {RegExp} */ pattern) => wheel.entries.filter((entry) => pattern.test(entry.name))
  return {
    libraries: matching(library).map((entry) => ({ entry, place: join('lib', entry.name.split('/').slice(-1).join()) })),
    headers: matching(header).map((entry) => ({ entry, place: entry.name.replace('tensorflow/include/', '') })),
    cuda: matching(cuda).map((entry) => ({ entry, place: entry.name })),
  }
}
