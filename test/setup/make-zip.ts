import { writeFileSync } from 'node:fs'
import { crc32, deflateRawSync } from 'node:zlib'

export interface ZipFile {
  readonly name: string
  readonly data: Buffer
  readonly method?: 0 | 8 | 12
}

/** Writes a zip archive; with `wide` every size and place stands in the 64-bit fields, as in archives beyond 4 GB. */
export function makeZip(path: string, files: readonly ZipFile[], { wide = false } = {}): Buffer {
  const locals: Buffer[] = []
  const central: Buffer[] = []
  let offset = 0
  for (const { name, data, method = 8 } of files) {
    const packed = method === 8 ? deflateRawSync(data) : data
    const local = Buffer.concat([
      header(30, 0x04034b50, { 8: method, 26: name.length }, { 14: crc32(data), 18: packed.length, 22: data.length }),
      Buffer.from(name),
      packed,
    ])
    const extra = wide ? wideExtra(data.length, packed.length, offset) : Buffer.alloc(0)
    const sizes = wide ? { 20: 0xffffffff, 24: 0xffffffff, 42: 0xffffffff } : { 20: packed.length, 24: data.length, 42: offset }
    central.push(
      header(46, 0x02014b50, { 10: method, 28: name.length, 30: extra.length }, { 16: crc32(data), ...sizes }),
      Buffer.from(name),
      extra,
    )
    locals.push(local)
    offset += local.length
  }
  const directory = Buffer.concat(central)
  const end = wide ? wideEnd(files.length, directory.length, offset) : plainEnd(files.length, directory.length, offset)
  const bytes = Buffer.concat([...locals, directory, end])
  writeFileSync(path, bytes)
  return bytes
}

function header(size: number, signature: number, words: Record<number, number>, longs: Record<number, number>): Buffer {
  const bytes = Buffer.alloc(size)
  bytes.writeUInt32LE(signature, 0)
  for (const [at, value] of Object.entries(words)) bytes.writeUInt16LE(value, Number(at))
  for (const [at, value] of Object.entries(longs)) bytes.writeUInt32LE(value, Number(at))
  return bytes
}

function wideExtra(size: number, packed: number, offset: number): Buffer {
  const extra = header(28, 0, { 0: 1, 2: 24 }, {})
  for (const [index, value] of [size, packed, offset].entries()) extra.writeBigUInt64LE(BigInt(value), 4 + 8 * index)
  return extra
}

function plainEnd(count: number, size: number, offset: number): Buffer {
  return header(22, 0x06054b50, { 8: count, 10: count }, { 12: size, 16: offset })
}

function wideEnd(count: number, size: number, offset: number): Buffer {
  const end = header(56, 0x06064b50, {}, {})
  for (const [at, value] of [
    [24, count],
    [32, count],
    [40, size],
    [48, offset],
  ] as const)
    end.writeBigUInt64LE(BigInt(value), at)
  const locator = header(20, 0x07064b50, {}, { 16: 1 })
  locator.writeBigUInt64LE(BigInt(offset + size), 8)
  return Buffer.concat([end, locator, header(22, 0x06054b50, { 8: 0xffff, 10: 0xffff }, { 12: 0xffffffff, 16: 0xffffffff })])
}
