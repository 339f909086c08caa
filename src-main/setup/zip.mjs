import { createHash } from 'node:crypto'
import { closeSync, createReadStream, createWriteStream, fstatSync, mkdirSync, openSync, readSync } from 'node:fs'
import { dirname } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createInflateRaw, inflateRawSync } from 'node:zlib'

/**
 * One file of an archive. Sizes and offset are bytes.
 * @typedef {{ name: string, method: number, compressedSize: number, size: number, headerOffset: number }} ZipEntry
 */

const endSignature = 0x06054b50
const end64Signature = 0x06064b50
const locator64Signature = 0x07064b50
const entrySignature = 0x02014b50
const headerSignature = 0x04034b50
const longestEnd = 22 + 0xffff

/**
 * The files of a zip archive, read from its central directory; archives beyond 4 GB too.
 * @param {string} path
 * @returns {ZipEntry[]}
 */
export function listZip(path) {
  const file = openSync(path, 'r')
  try {
    const { size } = fstatSync(file)
    const tailStart = Math.max(0, size - longestEnd)
    const directory = findDirectory(file, readAt(file, tailStart, size - tailStart), tailStart, path)
    if (directory.offset + directory.size > size) throw cutShort(path)
    return parseDirectory(readAt(file, directory.offset, directory.size), directory.count, path)
  } finally {
    closeSync(file)
  }
}

/**
 * @param {number} file
 * @param {Buffer} tail the last bytes of the archive
 * @param {number} tailStart where they stand in it
 * @param {string} path
 * @returns {{ count: number, size: number, offset: number }}
 */
function findDirectory(file, tail, tailStart, path) {
  for (let at = tail.length - 22; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== endSignature) continue
    const locator = at - 20
    if (locator >= 0 && tail.readUInt32LE(locator) === locator64Signature) return readEnd64(file, tail, locator, tailStart, path)
    return { count: tail.readUInt16LE(at + 10), size: tail.readUInt32LE(at + 12), offset: tail.readUInt32LE(at + 16) }
  }
  throw cutShort(path)
}

/**
 * @param {number} file
 * @param {Buffer} tail
 * @param {number} locator
 * @param {number} tailStart
 * @param {string} path
 */
function readEnd64(file, tail, locator, tailStart, path) {
  const offset = Number(tail.readBigUInt64LE(locator + 8))
  if (offset + 56 > tailStart + tail.length) throw cutShort(path)
  const end = readAt(file, offset, 56)
  if (end.readUInt32LE(0) !== end64Signature) throw cutShort(path)
  return { count: Number(end.readBigUInt64LE(32)), size: Number(end.readBigUInt64LE(40)), offset: Number(end.readBigUInt64LE(48)) }
}

/**
 * @param {Buffer} directory
 * @param {number} count
 * @param {string} path
 * @returns {ZipEntry[]}
 */
function parseDirectory(directory, count, path) {
  const entries = []
  let at = 0
  for (let index = 0; index < count; index++) {
    if (at + 46 > directory.length || directory.readUInt32LE(at) !== entrySignature) throw cutShort(path)
    const nameLength = directory.readUInt16LE(at + 28)
    const extraLength = directory.readUInt16LE(at + 30)
    const name = directory.toString('utf8', at + 46, at + 46 + nameLength)
    if (name.startsWith('/') || name.includes('\\') || name.split('/').includes('..'))
      throw new Error(`${path} names a file outside itself: ${name}.`)
    const extra = directory.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength)
    const sizes = widen([directory.readUInt32LE(at + 24), directory.readUInt32LE(at + 20), directory.readUInt32LE(at + 42)], extra)
    entries.push({ name, method: directory.readUInt16LE(at + 10), size: sizes[0], compressedSize: sizes[1], headerOffset: sizes[2] })
    at += 46 + nameLength + extraLength + directory.readUInt16LE(at + 32)
  }
  return entries
}

/**
 * Replaces the fields that hold 0xffffffff by the 64-bit ones of the extra field, which lists only those, in this order.
 * @param {[number, number, number]} fields size, compressed size, offset
 * @param {Buffer} extra
 * @returns {[number, number, number]}
 */
function widen(fields, extra) {
  const wide = findExtra(extra, 1)
  let at = 0
  const next = (/** @type {number} */ field) => {
    if (field !== 0xffffffff || !wide || at + 8 > wide.length) return field
    at += 8
    return Number(wide.readBigUInt64LE(at - 8))
  }
  return [next(fields[0]), next(fields[1]), next(fields[2])]
}

/** @param {Buffer} extra @param {number} wanted */
function findExtra(extra, wanted) {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) === wanted) return extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2))
  }
  return undefined
}

/**
 * A small file of the archive, whole.
 * @param {string} path
 * @param {ZipEntry} entry
 * @returns {Buffer}
 */
export function readEntry(path, entry) {
  const file = openSync(path, 'r')
  try {
    const bytes = readAt(file, dataOffset(file, entry, path), entry.compressedSize)
    if (bytes.length < entry.compressedSize) throw cutShort(path)
    const data = entry.method === 0 ? bytes : inflateRawSync(bytes)
    if (data.length !== entry.size) throw cutShort(path)
    return data
  } finally {
    closeSync(file)
  }
}

/**
 * Writes a file of the archive to `target`, of any size.
 * @param {string} path
 * @param {ZipEntry} entry
 * @param {string} target
 * @param {(bytes: number) => void} [onBytes] told how many bytes were written more
 * @returns {Promise<{ sha256: string, size: number }>} the hash in hexadecimal
 */
export async function extractEntry(path, entry, target, onBytes) {
  if (entry.method !== 0 && entry.method !== 8)
    throw new Error(`${path} packs ${entry.name} by method ${entry.method}; only 0 and 8 are known.`)
  mkdirSync(dirname(target), { recursive: true })
  const start = offsetOf(path, entry)
  const hash = createHash('sha256')
  let size = 0
  const measure = new Transform({
    transform(chunk, _encoding, done) {
      hash.update(chunk)
      size += chunk.length
      onBytes?.(chunk.length)
      done(null, chunk)
    },
  })
  const packed = createReadStream(path, { start, end: Math.max(start, start + entry.compressedSize - 1), highWaterMark: 1 << 20 })
  const unpack = entry.method === 8 ? [createInflateRaw({ chunkSize: 1 << 18 })] : []
  if (entry.compressedSize > 0) await pipeline([packed, ...unpack, measure, createWriteStream(target)])
  if (size !== entry.size) throw cutShort(path)
  return { sha256: hash.digest('hex'), size }
}

/** @param {string} path @param {ZipEntry} entry */
function offsetOf(path, entry) {
  const file = openSync(path, 'r')
  try {
    return dataOffset(file, entry, path)
  } finally {
    closeSync(file)
  }
}

/** @param {number} file @param {ZipEntry} entry @param {string} path */
function dataOffset(file, entry, path) {
  const header = readAt(file, entry.headerOffset, 30)
  if (header.length < 30 || header.readUInt32LE(0) !== headerSignature) throw cutShort(path)
  return entry.headerOffset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28)
}

/** @param {number} file @param {number} offset @param {number} length */
function readAt(file, offset, length) {
  const bytes = Buffer.alloc(length)
  let read = 0
  while (read < length) {
    const more = readSync(file, bytes, read, length - read, offset + read)
    if (more === 0) break
    read += more
  }
  return bytes.subarray(0, read)
}

/** @param {string} path */
function cutShort(path) {
  return new Error(`${path} is not a whole zip archive.`)
}
