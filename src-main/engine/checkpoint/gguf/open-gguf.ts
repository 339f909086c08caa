import type { FileHandle } from 'node:fs/promises'
import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import type { Dialect } from '#engine/architectures/dialect.ts'
import { ggufArchitectures, readSpec } from '#engine/architectures/index.ts'
import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'
import { alignedBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import { byteRange, type Checkpoint, columnCount, type Rows, rowCount, type TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import { elementBytes, fromFloat32, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import type { Decimals } from '#engine/checkpoint/json.ts'
import { reasonOf } from '#engine/checkpoint/json.ts'
import { readBytes } from '#engine/checkpoint/regular-file.ts'
import { openRegular } from '#runtime/small-file.ts'
import { type GgufLayout, readLayout } from './block-sizes.ts'
import { type GgufHeader, readHeader } from './header.ts'
import { Metadata } from './metadata.ts'
import { firstPart, partsOf } from './parts.ts'
import { type RotaryFactors, readScaling } from './rotary-scaling.ts'
import type { Part, Place, PlacedTensor, StoredRows } from './tensor-places.ts'
import { placeTensors } from './tensor-places.ts'
import { decodeBlocks } from './value-blocks.ts'

/**
 * Opens a GGUF file of a known architecture as if it were the folder that it was made from, with the same config, tensor names and row
 * order. Quantised tensors appear as F32.
 */
export async function openGguf(file: string): Promise<Checkpoint> {
  const parts = await openParts(await partsOf(file))
  try {
    const header = joinParts(parts)
    const metadata = explain(file, () => new Metadata(header.metadata))
    const family = ggufArchitectures.get(metadata.architecture)
    if (!family) {
      const known = [...ggufArchitectures.keys()].join(', ')
      throw new EspalierError(
        'invalid',
        `${file} has the architecture ${metadata.architecture}. Espalier supports these in GGUF: ${known}.`,
        { file },
      )
    }
    const factors = await readFactors(header)
    const layout = explain(file, () => readLayout(metadata, family.dialect))
    const config = explain(file, () => makeConfig(family, metadata, { header, layout, factors }))
    const spec = readSpec(config)
    explain(file, () => requireRouter(metadata, spec))
    const places = explain(file, () => placeTensors(header.tensors, { spec, dialect: family.dialect, layout }))
    return new GgufCheckpoint(firstPart(file), parts, { config, blocks: layout.blocks, places })
  } catch (error) {
    await closeParts(parts)
    throw error
  }
}

/** llama.cpp's numbers for the functions that turn a router's logits into weights. */
const gatings = { softmax: [1, 3], sigmoid: [2] } as const

/** Throws an Error if the file's routers score experts differently from the family's. */
function requireRouter(metadata: Metadata, { router, family }: DecoderSpec): void {
  const gating = router && metadata.optionalNumber('expert_gating_func')
  const known: readonly number[] = router ? gatings[router.scores] : []
  if (gating === undefined || gating === 0 || known.includes(gating)) return
  throw new Error(`its expert_gating_func is ${gating}, but routers of ${family} have ${known.join(' or ')}`)
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

/** Joins the metadata of the first part and the tensors of all parts. Throws if the parts do not belong together. */
function joinParts(parts: readonly Part[]): JoinedHeader {
  const [first] = parts as readonly [Part]
  const tensors = new Map<string, PlacedTensor>()
  for (const [index, part] of parts.entries()) {
    const number = part.header.metadata.get('split.no')
    if (parts.length > 1 && number !== index)
      throw new EspalierError('invalid', `${part.file} is not part ${index + 1} of ${parts.length}, as its name says. Download it again.`)
    for (const tensor of part.header.tensors.values()) {
      if (tensors.has(tensor.name))
        throw new EspalierError(
          'invalid',
          `${part.file} has tensor ${tensor.name}, which another part has too. Download all parts of the same model.`,
        )
      tensors.set(tensor.name, { ...tensor, part })
    }
  }
  const expected = first.header.metadata.get('split.tensors.count')
  if (parts.length > 1 && typeof expected === 'number' && expected !== tensors.size)
    throw new EspalierError(
      'invalid',
      `${first.file} and its other parts have ${tensors.size} tensors, but the model has ${expected}. Download them again.`,
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
  readBytes(part.handle, begin + skip, bytes, part.file)

interface GgufContents {
  readonly config: Record<string, unknown>
  readonly blocks: readonly BlockLayout[] | undefined
  readonly places: Map<string, Place>
}

/** The types of stored tensors, the one with the most bytes first, and their total bytes; undefined if all types are plain. */
function findQuantised(stored: ReadonlySet<PlacedTensor>): Checkpoint['quantised'] {
  if ([...stored].every(({ type }) => type.dtype !== undefined)) return undefined
  const bytes = new Map<string, number>()
  for (const tensor of stored) bytes.set(tensor.type.name, (bytes.get(tensor.type.name) ?? 0) + tensor.bytes)
  const sorted = [...bytes].sort(([, one], [, other]) => other - one)
  return { types: sorted.map(([name]) => name), bytes: sorted.reduce((total, [, ofType]) => total + ofType, 0) }
}

class GgufCheckpoint implements Checkpoint {
  readonly path: string
  readonly config: Record<string, unknown>
  readonly decimals = decimalKeys
  readonly tensors: ReadonlyMap<string, TensorInfo>
  readonly blocks: readonly BlockLayout[] | undefined
  readonly quantised: Checkpoint['quantised']
  readonly #parts: readonly Part[]
  readonly #places: Map<string, Place>

  constructor(path: string, parts: readonly Part[], { config, blocks, places }: GgufContents) {
    this.path = path
    this.config = config
    this.blocks = blocks
    this.#parts = parts
    this.#places = places
    this.tensors = new Map([...places].map(([name, { info }]) => [name, info]))
    this.quantised = findQuantised(new Set([...places.values()].flatMap(({ rows }) => rows.map(({ stored }) => stored))))
  }

  async read(name: string, rows?: Rows): Promise<Uint8Array> {
    const { info, undo, columnRanges } = this.#place(name)
    const found = await this.#readRows(name, rows)
    const parts = found.map(({ stored, bytes }) => {
      const cut = (all: Uint8Array) => firstColumns(all, columnCount(stored.shape), columnCount(info.shape), elementBytes(info.dtype))
      if (stored.type.dtype === info.dtype && !undo) return cut(bytes)
      const values = decodeBlocks(bytes, stored.type)
      return cut(fromFloat32(undo ? values.map(undo) : values, 'F32'))
    })
    return columnRanges ? takeFrom(joinBytes(parts), columnRanges, elementBytes(info.dtype)) : joinBytes(parts)
  }

  async readStored(name: string, rows?: Rows): Promise<Uint8Array> {
    return joinBytes((await this.#readRows(name, rows)).map(({ bytes }) => bytes))
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

  async #readRows(name: string, rows: Rows | undefined): Promise<{ stored: PlacedTensor; bytes: Uint8Array }[]> {
    const { info, rows: places, interleavedRows } = this.#place(name)
    const wanted = rows ?? { first: 0, count: rowCount(info.shape) }
    // Throws for rows out of range.
    byteRange(info, wanted)
    if (!interleavedRows) {
      const read = async (range: StoredRows) => ({ stored: range.stored, bytes: await readRange(range) })
      return Promise.all(intersect(places, wanted).map(read))
    }
    const { stored } = at(places, 0)
    const first = Math.floor(wanted.first / interleavedRows) * interleavedRows
    const end = Math.ceil((wanted.first + wanted.count) / interleavedRows) * interleavedRows
    const heads = await readRange({ stored, first, count: end - first })
    return [{ stored, bytes: takeApart(heads, rowBytesOf(stored), interleavedRows, wanted.first - first, wanted.count) }]
  }
}

const rowBytesOf = ({ bytes, shape }: PlacedTensor): number => bytes / rowCount(shape)
const readRange = ({ stored, first, count }: StoredRows): Promise<Uint8Array> =>
  readTensor(stored, first * rowBytesOf(stored), count * rowBytesOf(stored))

/** Config keys whose values transformers accepts only as decimals. */
const decimalKeys: Decimals = new Set([
  'rope_theta',
  'rope_local_base_freq',
  'rope_scaling.factor',
  'final_logit_softcapping',
  'attn_logit_softcapping',
  'embedding_multiplier',
  'attention_multiplier',
  'residual_multiplier',
  'logits_scaling',
])

/** Builds transformers' config.json for a GGUF file of a known family. */
function makeConfig(
  { modelType, dialect }: { modelType: string; dialect: Dialect },
  metadata: Metadata,
  { header, layout, factors }: { header: Pick<GgufHeader, 'tensors'>; layout: GgufLayout; factors: RotaryFactors },
): Record<string, unknown> {
  const hidden = metadata.number('embedding_length')
  const { heads } = layout
  const headSize = metadata.optionalNumber('attention.key_length') ?? hidden / heads
  const rotary = metadata.optionalNumber('rope.dimension_count') ?? headSize
  const window = metadata.optionalNumber('attention.sliding_window')
  if (!Number.isInteger(headSize) || headSize < 2 || headSize % 2 !== 0)
    throw new Error(`its head size is ${headSize}, but must be an even number`)
  const has = (pattern: RegExp) => [...header.tensors.keys()].some((name) => pattern.test(name))
  const [queryBias, outputBias] = [has(/^blk\.\d+\.attn_q\.bias$/), has(/^blk\.\d+\.attn_output\.bias$/)]
  const queryNorm = has(/^blk\.\d+\.attn_q_norm\.weight$/)
  const { count: blocks, expertWidth } = layout
  return {
    model_type: modelType,
    hidden_size: hidden,
    intermediate_size: layout.intermediate,
    num_hidden_layers: blocks,
    num_attention_heads: heads,
    num_key_value_heads: layout.keyValueHeads,
    head_dim: headSize,
    vocab_size: header.tensors.get('token_embd.weight')?.shape[0] ?? 0,
    max_position_embeddings: metadata.number('context_length'),
    ...(metadata.has('attention.layer_norm_epsilon')
      ? { layer_norm_eps: metadata.number('attention.layer_norm_epsilon') }
      : { rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon') }),
    rope_theta: metadata.optionalNumber('rope.freq_base') ?? 10000,
    hidden_act: 'silu',
    tie_word_embeddings: !header.tensors.has('output.weight'),
    attention_bias: queryBias,
    mlp_bias: has(/^blk\.\d+\.ffn_down\.bias$/),
    ...(rotary === headSize ? {} : { partial_rotary_factor: rotary / headSize }),
    ...(window ? { sliding_window: window } : {}),
    ...readScaling(metadata, factors, { size: rotary, wholeYarn: dialect.wholeYarn }),
    ...dialect.config?.(metadata, { blocks, hidden, heads, headSize, rotary, queryBias, outputBias, queryNorm, expertWidth }),
  }
}

/** A tensor consists of `ranges` of stored rows, one after another. Returns the stored ranges of its `wanted` rows. */
function intersect<Range extends Rows>(ranges: readonly Range[], wanted: Rows): Range[] {
  let passed = 0
  return ranges.flatMap((range) => {
    const { first, count } = range
    const from = Math.max(wanted.first - passed, 0)
    const until = Math.min(wanted.first + wanted.count - passed, count)
    passed += count
    return until > from ? [{ ...range, first: first + from, count: until - from }] : []
  })
}

/** Concatenates pieces of memory. */
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

/** Copies the first `kept` of the `columns` values of each row. Returns `bytes` itself if all are kept. */
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

/** Restores the order of the columns: in each row, the model's values are these ranges of the file's, one after another. */
function takeFrom(bytes: Uint8Array, ranges: readonly Rows[], entryBytes: number): Uint8Array {
  const result = alignedBuffer(bytes.byteLength)
  for (let to = 0; to < bytes.byteLength; ) {
    const row = to
    for (const { first, count } of ranges) {
      const from = row + first * entryBytes
      result.set(bytes.subarray(from, from + count * entryBytes), to)
      to += count * entryBytes
    }
  }
  return result
}

/** Restores the order of rows within each head: stored rows 0, 2, 4, … are its first half, rows 1, 3, 5, … its second half. */
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
