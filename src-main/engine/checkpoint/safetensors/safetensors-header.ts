import type { FileHandle } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { type Dtype, dtypes, elementBytes, isDtype } from '#engine/checkpoint/dtypes.ts'
import { describe, findDuplicateKey, isObject, type JsonObject, parseObject } from '#engine/checkpoint/json.ts'
import { readBytes } from '#engine/checkpoint/regular-file.ts'
import { allowFor } from '#engine/limits/reading.ts'
import { openRegular } from '#runtime/small-file.ts'

/** One entry of a safetensors header. `begin` is its offset from the start of the file. */
export interface StoredTensor {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly begin: number
  readonly bytes: number
}

/** The largest header that any reader of the format accepts, in bytes. */
const largestHeader = 100_000_000

const forbiddenNames = new Set(['__proto__', 'constructor', 'prototype', ''])

/**
 * Checks the start of a safetensors file and returns the header's length in bytes. `start` is the first eight bytes of the file, or the
 * whole file if it is shorter.
 */
function readHeaderLength(start: Uint8Array, fileBytes: number, file: string): number {
  if (start.length < 8)
    fail(file, `is ${fileBytes} bytes long; a safetensors file has at least 8. It is cut off, or not a safetensors file.`)
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true)
  if (length > BigInt(largestHeader)) {
    fail(
      file,
      `claims a header of ${length} bytes; at most ${largestHeader.toLocaleString('en')} are allowed. It is damaged, or not a safetensors file.`,
    )
  }
  if (Number(length) + 8 > fileBytes) fail(file, `claims a header of ${length} bytes but is ${fileBytes} bytes long. It is cut off.`)
  if (length < 2n) fail(file, `claims a header of ${length} bytes, which cannot hold a JSON object.`)
  return Number(length)
}

/**
 * Parses a safetensors header and checks it against the size of the file. Dtypes must be known, shapes plausible, byte counts must match
 * shape and dtype, and the ranges must cover the data without overlap, gap or remainder.
 */
function parseHeader(header: Uint8Array, fileBytes: number, file: string): Map<string, StoredTensor> {
  const text = decodeText(header, file)
  const entries = parseObject(text, `The header of ${file}`)
  const duplicate = findDuplicateKey(text)
  if (duplicate !== undefined) fail(file, `has the key ${describe(duplicate)} twice in its header.`)
  const metadata = entries.__metadata__
  if (metadata !== undefined && !isObject(metadata)) fail(file, `has __metadata__ ${describe(metadata)} instead of an object.`)
  const start = 8 + header.length
  const tensors = new Map<string, StoredTensor>()
  for (const [name, entry] of Object.entries(entries)) {
    if (name !== '__metadata__') tensors.set(name, parseEntry(name, entry, start, file))
  }
  checkRanges([...tensors.values()], start, fileBytes, file)
  return tensors
}

function decodeText(header: Uint8Array, file: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header)
  } catch {
    return fail(file, 'has a header that is not UTF-8 text.')
  }
}

function parseEntry(name: string, entry: unknown, start: number, file: string): StoredTensor {
  if (forbiddenNames.has(name)) fail(file, `has a tensor named ${describe(name)}, which is not allowed.`)
  if (!isObject(entry)) fail(file, `describes tensor ${name} by ${describe(entry)} instead of an object.`)
  const { dtype } = entry
  if (!isDtype(dtype)) fail(file, `stores tensor ${name} as ${describe(dtype)}; known dtypes are ${dtypes.join(', ')}.`)
  const shape = parseShape(name, entry, file)
  const [begin, end] = parseOffsets(name, entry, file)
  const bytes = shape.reduce((product, size) => product * size, elementBytes(dtype))
  if (bytes !== end - begin) {
    fail(file, `gives tensor ${name} ${end - begin} bytes, but shape [${shape.join(', ')}] of ${dtype} takes ${bytes}.`)
  }
  return { name, dtype, shape, begin: start + begin, bytes }
}

function parseShape(name: string, entry: JsonObject, file: string): number[] {
  const { shape } = entry
  if (!Array.isArray(shape)) fail(file, `gives tensor ${name} a shape of ${describe(shape)} instead of an array.`)
  if (shape.length > 16) fail(file, `gives tensor ${name} ${shape.length} dimensions; at most 16 are allowed.`)
  for (const size of shape) {
    if (!isSize(size)) fail(file, `has the dimension ${describe(size)} in tensor ${name}; it must be a whole number, 0 or more.`)
  }
  return shape
}

function parseOffsets(name: string, entry: JsonObject, file: string): [number, number] {
  const offsets = entry.data_offsets
  if (!Array.isArray(offsets) || offsets.length !== 2) fail(file, `gives tensor ${name} no pair of data_offsets.`)
  const [begin, end] = offsets as unknown[]
  if (!isSize(begin) || !isSize(end)) {
    fail(file, `has data_offsets ${describe(begin)} and ${describe(end)} in tensor ${name}; they must be whole numbers, 0 or more.`)
  }
  if (begin > end) fail(file, `has tensor ${name} begin at ${begin}, after its end at ${end}.`)
  return [begin, end]
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function checkRanges(tensors: StoredTensor[], start: number, fileBytes: number, file: string): void {
  let expected = start
  for (const { name, begin, bytes } of tensors.sort((a, b) => a.begin - b.begin || a.bytes - b.bytes)) {
    if (begin < expected) fail(file, `has tensor ${name} overlap the one before it by ${expected - begin} bytes.`)
    if (begin > expected) fail(file, `has a gap of ${begin - expected} bytes before tensor ${name}.`)
    expected = begin + bytes
    if (expected > fileBytes)
      fail(file, `is ${fileBytes} bytes long, but tensor ${name} ends at ${expected}. It is cut off: download it again.`)
  }
  if (expected !== fileBytes) fail(file, `has ${fileBytes - expected} bytes after its last tensor, where nothing is allowed.`)
}

function fail(file: string, sentence: string): never {
  throw new EspalierError('invalid', `${file} ${sentence}`, { file })
}

/** An open safetensors file whose header has been checked. */
export interface SafetensorsFile {
  readonly file: string
  readonly tensors: ReadonlyMap<string, StoredTensor>
  readonly handle: FileHandle
}

/** Opens one safetensors file and checks its whole header. The caller closes `handle`. */
export async function openSafetensors(file: string): Promise<SafetensorsFile> {
  const handle = await openRegular(file)
  try {
    const { size } = await handle.stat()
    const length = readHeaderLength(await readBytes(handle, 0, Math.min(8, size), file), size, file)
    allowFor(length)
    return { file, tensors: parseHeader(await readBytes(handle, 8, length, file), size, file), handle }
  } catch (error) {
    await handle.close()
    throw error
  }
}
