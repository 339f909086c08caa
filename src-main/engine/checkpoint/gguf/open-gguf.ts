import type { FileHandle } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { alignedBuffer } from '../aligned-buffer.ts'
import { byteRange, type Checkpoint, type Rows, type StoredBlock, type TensorInfo } from '../checkpoint.ts'
import { elementBytes, fromFloat32, toFloat32 } from '../dtypes.ts'
import { reasonOf } from '../json.ts'
import { openRegular, readPart } from '../regular-file.ts'
import { type GgufLayout, readLayout } from './block-layout.ts'
import { decodeBlocks } from './blocks.ts'
import { decimalKeys, makeConfig } from './config.ts'
import { families, type GgufFamily, translateName } from './families.ts'
import { type GgufHeader, type GgufTensor, readHeader } from './header.ts'
import { Metadata } from './metadata.ts'
import { firstPart, partsOf } from './parts.ts'
import type { RotaryFactors } from './rotary-scaling.ts'

/**
 * Opens a GGUF file of a known architecture as if it were the folder that it was made from: the same config, tensor names and order of
 * rows. Quantised tensors appear as F32.
 */
export async function openGguf(file: string): Promise<Checkpoint> {
  const parts = await openParts(await partsOf(file))
  try {
    const header = joinParts(parts)
    const metadata = explain(file, () => new Metadata(header.metadata))
    const family = Object.hasOwn(families, metadata.architecture) ? families[metadata.architecture] : undefined
    if (!family) {
      const known = Object.keys(families).join(', ')
      throw new EspalierError('invalid', `${file} holds the architecture ${metadata.architecture}. Known in GGUF are ${known}.`, { file })
    }
    const factors = await readFactors(header)
    return explain(file, () => {
      const layout = readLayout(metadata)
      const config = makeConfig(family, metadata, { header, layout, factors })
      const places = placeTensors(header, family, layout, config)
      return new GgufCheckpoint(firstPart(file), parts, { config, blocks: layout.blocks, places })
    })
  } catch (error) {
    await closeParts(parts)
    throw error
  }
}

/** One file of a model. */
interface Part {
  readonly file: string
  readonly handle: FileHandle
  readonly header: GgufHeader
}

/** A tensor in the file that holds it. */
interface PlacedTensor extends GgufTensor {
  readonly part: Part
}

interface JoinedHeader {
  readonly metadata: GgufHeader['metadata']
  readonly tensors: ReadonlyMap<string, PlacedTensor>
}

async function openParts(files: readonly string[]): Promise<Part[]> {
  const parts: Part[] = []
  try {
    for (const file of files) {
      const handle = await openRegular(file)
      parts.push({ file, handle, header: await readHeader(handle, file).catch((error: unknown) => closeThenThrow(handle, error)) })
    }
    return parts
  } catch (error) {
    await closeParts(parts)
    throw error
  }
}

async function closeThenThrow(handle: FileHandle, error: unknown): Promise<never> {
  await handle.close()
  throw error
}

async function closeParts(parts: readonly Part[]): Promise<void> {
  await Promise.all(parts.map(({ handle }) => handle.close()))
}

/** The metadata of the first part and the tensors of all. Throws for parts that do not belong together. */
function joinParts(parts: readonly Part[]): JoinedHeader {
  const [first] = parts as readonly [Part]
  const tensors = new Map<string, PlacedTensor>()
  for (const [index, part] of parts.entries()) {
    const number = part.header.metadata.get('split.no')
    if (parts.length > 1 && number !== index)
      throw new EspalierError('invalid', `${part.file} is not part ${index + 1} of ${parts.length}, as its name says. Fetch it again.`)
    for (const tensor of part.header.tensors.values()) {
      if (tensors.has(tensor.name))
        throw new EspalierError('invalid', `${part.file} holds ${tensor.name}, which another part holds too. Fetch all parts of one model.`)
      tensors.set(tensor.name, { ...tensor, part })
    }
  }
  const expected = first.header.metadata.get('split.tensors.count')
  if (parts.length > 1 && typeof expected === 'number' && expected !== tensors.size)
    throw new EspalierError(
      'invalid',
      `${first.file} and its other parts hold ${tensors.size} tensors, ${expected} belong to the model. Fetch them again.`,
    )
  return { metadata: first.header.metadata, tensors }
}

function explain<Result>(file: string, read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    throw new EspalierError('invalid', `${file} cannot be used: ${reasonOf(error)}.`, { file })
  }
}

async function readFactors(header: JoinedHeader): Promise<RotaryFactors> {
  const factors: RotaryFactors = {}
  const names = { frequencies: 'rope_freqs.weight', short: 'rope_factors_short.weight', long: 'rope_factors_long.weight' } as const
  for (const kind of ['frequencies', 'short', 'long'] as const) {
    const tensor = header.tensors.get(names[kind])
    if (tensor) factors[kind] = decodeBlocks(await readTensor(tensor, 0, tensor.bytes), tensor.type)
  }
  return factors
}

const readTensor = ({ part, begin }: PlacedTensor, skip: number, bytes: number): Promise<Uint8Array> =>
  readPart(part.handle, begin + skip, bytes, part.file)

/** A tensor as it appears, the rows of a stored one that it is made of, and the rows per head when they are interleaved. */
interface Place {
  readonly info: TensorInfo
  readonly stored: PlacedTensor
  readonly rows: readonly Rows[]
  readonly interleavedRows: number | undefined
  /** What the file has added to the values. */
  readonly offset: number
}

interface GgufContents {
  readonly config: Record<string, unknown>
  readonly blocks: readonly StoredBlock[] | undefined
  readonly places: Map<string, Place>
}

class GgufCheckpoint implements Checkpoint {
  readonly path: string
  readonly config: Record<string, unknown>
  readonly decimals = decimalKeys
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly blocks: readonly StoredBlock[] | undefined
  readonly #parts: readonly Part[]
  readonly #places: Map<string, Place>

  constructor(path: string, parts: readonly Part[], { config, blocks, places }: GgufContents) {
    this.path = path
    this.config = config
    this.blocks = blocks
    this.#parts = parts
    this.#places = places
    this.tensors = new Map([...places].map(([name, { info }]) => [name, info]))
  }

  async read(name: string, rows?: Rows): Promise<Uint8Array> {
    const { info, stored, offset } = this.#place(name)
    const bytes = await this.#readStored(name, rows)
    const cut = (all: Uint8Array) => firstColumns(all, stored.shape[1] ?? 1, info.shape[1] ?? 1, elementBytes(info.dtype))
    if (stored.type.dtype === info.dtype && offset === 0) return cut(bytes)
    const values = decodeBlocks(bytes, stored.type)
    return cut(fromFloat32(offset === 0 ? values : values.map((value) => value - offset), 'F32'))
  }

  async readFloat32(name: string, rows?: Rows): Promise<Float32Array> {
    return toFloat32(await this.read(name, rows), this.#place(name).info.dtype)
  }

  close(): Promise<void> {
    return closeParts(this.#parts)
  }

  #place(name: string): Place {
    const place = this.#places.get(name)
    if (!place)
      throw new EspalierError('invalid', `${this.path} has no tensor ${name}. It has ${this.tensors.size} others.`, { tensor: name })
    return place
  }

  async #readStored(name: string, rows: Rows | undefined): Promise<Uint8Array> {
    const { info, stored, rows: places, interleavedRows } = this.#place(name)
    const wanted = rows ?? { first: 0, count: info.shape[0] ?? 1 }
    // Throws for rows that the tensor does not have.
    byteRange(info, wanted)
    const rowBytes = stored.bytes / (stored.shape[0] ?? 1)
    if (!interleavedRows) {
      const found = intersect(places, wanted).map(({ first, count }) => readTensor(stored, first * rowBytes, count * rowBytes))
      return joinBytes(await Promise.all(found))
    }
    const first = Math.floor(wanted.first / interleavedRows) * interleavedRows
    const end = Math.ceil((wanted.first + wanted.count) / interleavedRows) * interleavedRows
    const heads = await readTensor(stored, first * rowBytes, (end - first) * rowBytes)
    return takeApart(heads, rowBytes, interleavedRows, wanted.first - first, wanted.count)
  }
}

/** Where some rows of a tensor lie that is made of ranges of a stored one. */
function intersect(ranges: readonly Rows[], wanted: Rows): Rows[] {
  let passed = 0
  return ranges.flatMap(({ first, count }) => {
    const from = Math.max(wanted.first - passed, 0)
    const until = Math.min(wanted.first + wanted.count - passed, count)
    passed += count
    return until > from ? [{ first: first + from, count: until - from }] : []
  })
}

function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0] as Uint8Array
  const joined = alignedBuffer(parts.reduce((sum, { byteLength }) => sum + byteLength, 0))
  let begin = 0
  for (const part of parts) {
    joined.set(part, begin)
    begin += part.byteLength
  }
  return joined
}

/** Values in rows, without those that were added behind each row. */
function firstColumns(bytes: Uint8Array, columns: number, kept: number, valueBytes: number): Uint8Array {
  if (kept === columns) return bytes
  const rows = bytes.byteLength / (columns * valueBytes)
  const result = alignedBuffer(rows * kept * valueBytes)
  for (let row = 0; row < rows; row++) {
    const begin = row * columns * valueBytes
    result.set(bytes.subarray(begin, begin + kept * valueBytes), row * kept * valueBytes)
  }
  return result
}

// They became part of the config.
const rotaryTensors = /^rope_|rot_embd/

function placeTensors(header: JoinedHeader, family: GgufFamily, layout: GgufLayout, config: Record<string, unknown>): Map<string, Place> {
  const places = new Map<string, Place>()
  for (const stored of header.tensors.values()) {
    const names = translateName(family, stored.name)
    if (names === undefined && rotaryTensors.test(stored.name)) continue
    if (names === undefined) throw new Error(`it has tensor ${stored.name}, which ${family.modelType} does not know`)
    if (!isMissing(stored.name, layout))
      for (const place of placesOf(stored, names, family, layout, config)) places.set(place.info.name, place)
  }
  return places
}

/** Whether a tensor stands for a submodule that is gone. */
function isMissing(name: string, { blocks }: GgufLayout): boolean {
  const [, index, part] = /^blk\.(\d+)\.(attn|ffn)_/.exec(name) ?? []
  const block = index === undefined ? undefined : blocks?.[Number(index)]
  if (!block) return false
  // Where a block has one norm for both, it is called the attention's.
  return part === 'attn' ? !block.attention && !(name.includes('attn_norm') && block.width > 0) : block.width === 0
}

function placesOf(
  stored: PlacedTensor,
  names: readonly string[],
  { interleaved, normOffset = 0 }: GgufFamily,
  layout: GgufLayout,
  config: Record<string, unknown>,
): Place[] {
  const headSize = config.head_dim as number
  const { rows, columns } = neuronsOf(stored, layout)
  const rowsEach = names.length === 1 ? [rows] : headRows(stored, layout, headSize)
  return names.map((name, index) => {
    const ranges = rowsEach[index] ?? []
    const shape = [ranges.reduce((sum, { count }) => sum + count, 0), ...(columns === undefined ? [] : [columns])]
    const offset = /norm\.weight$/.test(name) ? normOffset : 0
    const dtype = offset === 0 ? stored.type.dtype : 'F32'
    const values = shape.reduce((product, size) => product * size, 1)
    const info: TensorInfo = {
      name,
      dtype: dtype ?? 'F32',
      shape,
      bytes: dtype && offset === 0 ? (values * stored.type.bytes) / stored.type.values : values * 4,
    }
    const interleavedRows = interleaved && /\.self_attn\.[qk]_proj\./.test(name) ? headSize : undefined
    return { info, stored, rows: ranges, offset, interleavedRows }
  })
}

/** Which rows and how many columns of a tensor are used: of an MLP's all but the zeros that were added behind its neurons. */
function neuronsOf({ name, shape }: PlacedTensor, { widths, storedWidths }: GgufLayout): { rows: Rows[]; columns: number | undefined } {
  const [all = 1, columns] = shape
  const [, index, part] = /^blk\.(\d+)\.ffn_(gate|up|down)\./.exec(name) ?? []
  const block = Number(index)
  const [width, stored] = [widths[block], storedWidths[block]]
  const whole = { rows: [{ first: 0, count: all }], columns }
  if (width === undefined || stored === undefined || width === stored) return whole
  if (part === 'down') return columns === stored ? { ...whole, columns: width } : whole
  // Gate and up may be halves of one tensor.
  const halves = all / stored
  if (halves !== 1 && halves !== 2) return whole
  return { rows: Array.from({ length: halves }, (_, half) => ({ first: half * stored, count: width })), columns }
}

/** The rows of queries, keys and values in the tensor that holds all three. */
function headRows({ name, shape }: PlacedTensor, { heads, keyValueHeads }: GgufLayout, headSize: number): Rows[][] {
  let first = 0
  return [heads, keyValueHeads, keyValueHeads].map((count) => {
    const rows = { first, count: count * headSize }
    first += rows.count
    if (first > (shape[0] ?? 1)) throw new Error(`its tensor ${name} has ${shape[0]} rows, its heads need ${first}`)
    return [rows]
  })
}

/** Puts the rows of each head back: rows 0, 2, 4, … are its first half, rows 1, 3, 5, … its second. */
function takeApart(heads: Uint8Array, rowBytes: number, headRows: number, first: number, count: number): Uint8Array {
  const result = alignedBuffer(count * rowBytes)
  for (let i = 0; i < count; i++) {
    const row = first + i
    const within = row % headRows
    const half = headRows / 2
    const source = row - within + (within < half ? 2 * within : 2 * (within - half) + 1)
    result.set(heads.subarray(source * rowBytes, (source + 1) * rowBytes), i * rowBytes)
  }
  return result
}
