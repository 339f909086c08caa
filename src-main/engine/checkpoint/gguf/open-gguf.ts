import type { FileHandle } from 'node:fs/promises'
import { EspalierError } from '#contract/errors.ts'
import { alignedBuffer } from '../aligned-buffer.ts'
import { byteRange, type Checkpoint, type Rows, type StoredBlock, type TensorInfo } from '../checkpoint.ts'
import { fromFloat32, toFloat32 } from '../dtypes.ts'
import { reasonOf } from '../json.ts'
import { openRegular, readPart } from '../regular-file.ts'
import { type GgufLayout, readLayout } from './block-layout.ts'
import { decodeBlocks } from './blocks.ts'
import { decimalKeys, makeConfig } from './config.ts'
import { families, type GgufFamily, translateName } from './families.ts'
import { type GgufHeader, type GgufTensor, readHeader } from './header.ts'
import { Metadata } from './metadata.ts'
import type { RotaryFactors } from './rotary-scaling.ts'

/**
 * Opens a GGUF file of a known architecture as if it were the folder that it was made from: the same config, tensor names and order of
 * rows. Quantised tensors appear as F32.
 */
export async function openGguf(file: string): Promise<Checkpoint> {
  const handle = await openRegular(file)
  try {
    const header = await readHeader(handle, file)
    const metadata = explain(file, () => new Metadata(header.metadata))
    const family = Object.hasOwn(families, metadata.architecture) ? families[metadata.architecture] : undefined
    if (!family) {
      const known = Object.keys(families).join(', ')
      throw new EspalierError('invalid', `${file} holds the architecture ${metadata.architecture}. Known in GGUF are ${known}.`, { file })
    }
    const factors = await readFactors(handle, header, file)
    return explain(file, () => {
      const layout = readLayout(metadata)
      const config = makeConfig(family, metadata, { header, layout, factors })
      return new GgufCheckpoint(file, handle, { config, blocks: layout.blocks, places: placeTensors(header, family, layout, config) })
    })
  } catch (error) {
    await handle.close()
    throw error
  }
}

function explain<Result>(file: string, read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    throw new EspalierError('invalid', `${file} cannot be used: ${reasonOf(error)}.`, { file })
  }
}

async function readFactors(handle: FileHandle, header: GgufHeader, file: string): Promise<RotaryFactors> {
  const factors: RotaryFactors = {}
  const names = { frequencies: 'rope_freqs.weight', short: 'rope_factors_short.weight', long: 'rope_factors_long.weight' } as const
  for (const kind of ['frequencies', 'short', 'long'] as const) {
    const tensor = header.tensors.get(names[kind])
    if (tensor) factors[kind] = decodeBlocks(await readPart(handle, tensor.begin, tensor.bytes, file), tensor.type)
  }
  return factors
}

/** A tensor as it appears, the rows of a stored one that it is, and the rows per head when they are interleaved. */
interface Place {
  readonly info: TensorInfo
  readonly stored: GgufTensor
  readonly firstRow: number
  readonly interleavedRows: number | undefined
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
  readonly #handle: FileHandle
  readonly #places: Map<string, Place>

  constructor(path: string, handle: FileHandle, { config, blocks, places }: GgufContents) {
    this.path = path
    this.config = config
    this.blocks = blocks
    this.#handle = handle
    this.#places = places
    this.tensors = new Map([...places].map(([name, { info }]) => [name, info]))
  }

  async read(name: string, rows?: Rows): Promise<Uint8Array> {
    const { info, stored } = this.#place(name)
    const bytes = await this.#readStored(name, rows)
    return stored.type.dtype === info.dtype ? bytes : fromFloat32(decodeBlocks(bytes, stored.type), 'F32')
  }

  async readFloat32(name: string, rows?: Rows): Promise<Float32Array> {
    return toFloat32(await this.read(name, rows), this.#place(name).info.dtype)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  #place(name: string): Place {
    const place = this.#places.get(name)
    if (!place)
      throw new EspalierError('invalid', `${this.path} has no tensor ${name}. It has ${this.tensors.size} others.`, { tensor: name })
    return place
  }

  async #readStored(name: string, rows: Rows | undefined): Promise<Uint8Array> {
    const { info, stored, firstRow, interleavedRows } = this.#place(name)
    const wanted = rows ?? { first: 0, count: info.shape[0] ?? 1 }
    const rowBytes = stored.bytes / (stored.shape[0] ?? 1)
    const { skip, bytes } = byteRange({ ...info, bytes: rowBytes * (info.shape[0] ?? 1) }, wanted)
    if (!interleavedRows) return readPart(this.#handle, stored.begin + firstRow * rowBytes + skip, bytes, this.path)
    const first = Math.floor(wanted.first / interleavedRows) * interleavedRows
    const end = Math.ceil((wanted.first + wanted.count) / interleavedRows) * interleavedRows
    const heads = await readPart(this.#handle, stored.begin + first * rowBytes, (end - first) * rowBytes, this.path)
    return takeApart(heads, rowBytes, interleavedRows, wanted.first - first, wanted.count)
  }
}

// They became part of the config.
const rotaryTensors = /^rope_|rot_embd/

function placeTensors(header: GgufHeader, family: GgufFamily, layout: GgufLayout, config: Record<string, unknown>): Map<string, Place> {
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
  stored: GgufTensor,
  names: readonly string[],
  { interleaved }: GgufFamily,
  { heads, keyValueHeads }: GgufLayout,
  config: Record<string, unknown>,
): Place[] {
  const headSize = config.head_dim as number
  const rowsEach = names.length === 1 ? [stored.shape[0] ?? 1] : [heads, keyValueHeads, keyValueHeads].map((count) => count * headSize)
  let firstRow = 0
  return names.map((name, index) => {
    const rows = rowsEach[index] ?? 0
    const shape = [rows, ...stored.shape.slice(1)]
    const { dtype } = stored.type
    const values = shape.reduce((product, size) => product * size, 1)
    const info: TensorInfo = {
      name,
      dtype: dtype ?? 'F32',
      shape,
      bytes: dtype ? (values * stored.type.bytes) / stored.type.values : values * 4,
    }
    const place = { info, stored, firstRow, interleavedRows: interleaved && /\.self_attn\.[qk]_proj\./.test(name) ? headSize : undefined }
    firstRow += rows
    if (firstRow > (stored.shape[0] ?? 1))
      throw new Error(`its tensor ${stored.name} has ${stored.shape[0]} rows, its heads need ${firstRow}`)
    return place
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
