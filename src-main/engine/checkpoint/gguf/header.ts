import type { FileHandle } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { allowFor } from '../../limits/reading.ts'
import { reasonOf } from '../json.ts'
import { readBytes } from '../regular-file.ts'
import { Cursor, type GgufValue, HeaderGoesOn } from './cursor.ts'
import { type BlockType, blockTypeOf } from './value-blocks.ts'

/** One tensor of a GGUF file. `shape` has the number of rows first, as everywhere in Espalier; the file has it last. */
export interface GgufTensor {
  readonly name: string
  readonly type: BlockType
  readonly shape: readonly number[]
  /** Offset in the file. */
  readonly begin: number
  readonly bytes: number
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>
  readonly tensors: ReadonlyMap<string, GgufTensor>
}

// Most headers fit in the first read. A vocabulary of 256,000 tokens needs more.
const firstRead = 2 ** 21
const largestGgufHeader = 100_000_000

/** Reads the header of a GGUF file, version 2 or 3, little-endian, and checks it against the size of the file. */
export async function readHeader(handle: FileHandle, file: string): Promise<GgufHeader> {
  const { size } = await handle.stat()
  for (let length = Math.min(firstRead, size); ; length = Math.min(length * 8, size, largestGgufHeader)) {
    allowFor(length)
    try {
      return parseHeader(await readBytes(handle, 0, length, file), size)
    } catch (error) {
      if (error instanceof EspalierError) throw error
      if (!(error instanceof HeaderGoesOn)) throw invalid(file, `${reasonOf(error)}. It is damaged, or not a GGUF file`)
      if (length === size) throw invalid(file, `it ends inside its header, after ${size} bytes. It is cut off`)
      if (length === largestGgufHeader) throw invalid(file, `its header is longer than ${largestGgufHeader.toLocaleString('en')} bytes`)
    }
  }
}

function invalid(file: string, reason: string): EspalierError {
  return new EspalierError('invalid', `${file} cannot be read: ${reason}.`, { file })
}

function parseHeader(bytes: Uint8Array, fileBytes: number): GgufHeader {
  const cursor = new Cursor(bytes, fileBytes)
  checkStart(cursor)
  const tensorCount = cursor.count()
  const metadata = readMetadata(cursor, cursor.count())
  const stored = Array.from({ length: tensorCount }, () => readTensor(cursor))
  const alignment = metadata.get('general.alignment') ?? 32
  if (typeof alignment !== 'number' || alignment < 1 || alignment > 65536 || (alignment & (alignment - 1)) !== 0) {
    throw new Error(`its alignment is ${String(alignment)}; it must be a power of two, at most 65,536`)
  }
  const start = Math.ceil(cursor.position / alignment) * alignment
  return { metadata, tensors: placeTensors(stored, start, alignment, fileBytes) }
}

function checkStart(cursor: Cursor): void {
  if (cursor.u32() !== 0x46554747) throw new Error('it does not begin with GGUF')
  const version = cursor.u32()
  if (version === 2 || version === 3) return
  const hint = version === 0x02000000 || version === 0x03000000 ? ' (it is big-endian)' : ''
  throw new Error(`its version is ${version}${hint}; only little-endian files of version 2 or 3 are supported`)
}

function readMetadata(cursor: Cursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>()
  for (let i = 0; i < count; i++) {
    const key = cursor.string()
    if (metadata.has(key)) throw new Error(`it has the key ${key} twice`)
    metadata.set(key, cursor.value(cursor.u32()))
  }
  return metadata
}

function readTensor(cursor: Cursor): Omit<GgufTensor, 'begin'> & { offset: number } {
  const name = cursor.string()
  const dimensions = cursor.u32()
  if (dimensions > 8) throw new Error(`tensor ${name} has ${dimensions} dimensions; at most 8 are allowed`)
  const sizes = Array.from({ length: dimensions }, () => cursor.count())
  const number = cursor.u32()
  const type = blockTypeOf(number)
  if (!type) throw new Error(`tensor ${name} is stored as type ${number}, which is not known`)
  const width = sizes[0] ?? 1
  if (width % type.values !== 0)
    throw new Error(`tensor ${name} has rows of ${width} values, which do not divide into ${type.name}'s blocks of ${type.values}`)
  const bytes = sizes.reduce((product, size) => product * size, 1) * (type.bytes / type.values)
  return { name, type, shape: sizes.reverse(), bytes, offset: cursor.u64() }
}

function placeTensors(
  stored: ReturnType<typeof readTensor>[],
  start: number,
  alignment: number,
  fileBytes: number,
): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>()
  let expected = start
  for (const { offset, ...tensor } of stored.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    const { name, bytes } = tensor
    const begin = start + offset
    if (tensors.has(name)) throw new Error(`it has tensor ${name} twice`)
    if (offset % alignment !== 0) throw new Error(`tensor ${name} begins at ${offset}, which is not a multiple of ${alignment}`)
    if (begin < expected) throw new Error(`tensor ${name} overlaps the one before it by ${expected - begin} bytes`)
    if (!(begin + bytes <= fileBytes))
      throw new Error(`tensor ${name} ends at byte ${begin + bytes}, but the file has ${fileBytes} bytes. Download it again`)
    expected = begin + bytes
    tensors.set(name, { ...tensor, begin })
  }
  return tensors
}
