import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Size of the blocks that Electron checks one by one, in bytes. */
const blockSize = 4 * 1024 * 1024

/**
 * A file or a folder in the archive's header.
 * @typedef {{ files: Record<string, Entry> } | { size: number, offset?: string, unpacked?: true, integrity: object }} Entry
 */

/**
 * Writes an asar archive, as Electron reads it: the length of the header, the header in JSON, and the files behind one another. Files whose
 * name ends in `.node` lie beside the archive, because the system loads them itself.
 * @param {string} target
 * @param {Map<string, Buffer>} files by path inside the archive, with `/`
 */
export function writeArchive(target, files) {
  /** @type {{ files: Record<string, Entry> }} */
  const header = { files: {} }
  /** @type {Buffer[]} */
  const parts = []
  let offset = 0
  for (const [path, bytes] of files) {
    const entry = { size: bytes.length, integrity: integrityOf(bytes) }
    if (path.endsWith('.node')) {
      place(header, path, { ...entry, unpacked: true })
      writeWhole(join(`${target}.unpacked`, path), [bytes])
    } else {
      place(header, path, { ...entry, offset: String(offset) })
      parts.push(bytes)
      offset += bytes.length
    }
  }
  writeWhole(target, [pickle(JSON.stringify(header)), ...parts])
}

/** @param {{ files: Record<string, Entry> }} header @param {string} path @param {Entry} entry */
function place(header, path, entry) {
  const folders = path.split('/')
  const name = folders.pop() ?? ''
  let { files } = header
  for (const folder of folders) {
    files[folder] ??= { files: {} }
    files = /** @type {{ files: Record<string, Entry> }} */ (files[folder]).files
  }
  files[name] = entry
}

/** @param {Buffer} bytes */
function integrityOf(bytes) {
  const blocks = []
  for (let at = 0; at === 0 || at < bytes.length; at += blockSize) blocks.push(hashOf(bytes.subarray(at, at + blockSize)))
  return { algorithm: 'SHA256', hash: hashOf(bytes), blockSize, blocks }
}

/** @param {Buffer} bytes */
const hashOf = (bytes) => createHash('sha256').update(bytes).digest('hex')

/**
 * Chromium's form of a text: its length and bytes padded to four, with the size of both before it, and that size as a text of its own.
 * @param {string} text
 */
function pickle(text) {
  const bytes = Buffer.from(text)
  const padded = Math.ceil(bytes.length / 4) * 4
  const head = Buffer.alloc(16 + padded)
  for (const [index, value] of [4, padded + 8, padded + 4, bytes.length].entries()) head.writeUInt32LE(value, index * 4)
  bytes.copy(head, 16)
  return head
}

/** @param {string} path @param {Buffer[]} parts */
function writeWhole(path, parts) {
  mkdirSync(dirname(path), { recursive: true })
  const file = openSync(path, 'w')
  for (const part of parts) for (let at = 0; at < part.length; ) at += writeSync(file, part, at)
  closeSync(file)
}
