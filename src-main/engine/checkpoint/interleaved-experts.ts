import { at, outside } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { alignedBuffer } from './aligned-buffer.ts'
import { byteRange, type Checkpoint, type Rows, type TensorInfo } from './checkpoint.ts'
import { type Dtype, elementBytes, type FloatDtype, fromFloat32, toFloat32 } from './dtypes.ts'
import { type Transposition, takeColumns } from './transposed.ts'

/** The values of the 16 codes of MXFP4: a sign, two exponent bits and one fraction bit (OCP Microscaling Formats, section 5.3.3). */
const values = Float32Array.from([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6])

/** Bytes of a block of 32 codes (two per byte), and of the same block in GGUF, which puts the block's scale before the codes. */
const blockBytes = 16
const ggufBytes = blockBytes + 1

/** Converts blocks to GGUF's form: the scale, then bytes that hold codes j and j + 16. */
function ggufMxfp4(codes: Uint8Array, scales: Uint8Array): Uint8Array {
  const result = new Uint8Array(scales.length * ggufBytes)
  for (const [block, scale] of scales.entries()) {
    const code = (place: number) => ((codes[block * blockBytes + (place >> 1)] ?? outside(codes, place)) >> (place % 2 === 0 ? 0 : 4)) & 15
    result[block * ggufBytes] = scale
    for (let place = 0; place < blockBytes; place++) result[block * ggufBytes + 1 + place] = code(place) | (code(place + blockBytes) << 4)
  }
  return result
}

/** Decodes blocks of 32 values: two codes per byte, the first in the low half, times 2 to the power of the block's scale minus 127. */
function decodeMxfp4(codes: Uint8Array, scales: Uint8Array): Float32Array {
  const decoded = new Float32Array(2 * codes.length)
  for (let index = 0; index < codes.length; index++) {
    const code = codes[index] ?? outside(codes, index)
    const scale = 2 ** ((scales[index >> 4] ?? outside(scales, index >> 4)) - 127)
    decoded[2 * index] = (values[code & 15] ?? outside(values, code & 15)) * scale
    decoded[2 * index + 1] = (values[code >> 4] ?? outside(values, code >> 4)) * scale
  }
  return decoded
}

const joined = /^(.*\.experts)\.gate_up_proj_bias$/

type Part = 'gate' | 'up' | 'down'

/**
 * One expert's tensor as callers see it, and where it is stored: in a plain tensor that all experts share, or in MXFP4 blocks (`packed`).
 */
interface Place {
  readonly info: TensorInfo
  readonly source: string
  readonly packed: boolean
  readonly expert: number
  readonly part: Part
  readonly bias: boolean
}

/**
 * Presents the experts of gpt-oss as other families store them: a matrix and a bias for each expert and projection. gpt-oss stores all
 * experts of a block together, gates and ups alternating: in tensors with one row per input, or in MXFP4 blocks with one row per output.
 * Returns any other checkpoint unchanged.
 */
export function withSeparateExperts(checkpoint: Checkpoint): Checkpoint {
  const mixtures = [...checkpoint.tensors.keys()].flatMap((name) => joined.exec(name)?.[1] ?? [])
  if (mixtures.length === 0) return checkpoint
  const places = new Map(mixtures.flatMap((name) => placesOf(checkpoint, name).map((place) => [place.info.name, place] as const)))
  const hidden = (name: string) => mixtures.some((mixture) => name.startsWith(`${mixture}.`))
  const packed = [...places.values()].some((place) => place.packed)
  const others = [...checkpoint.tensors]
    .filter(([name]) => !hidden(name))
    .map(([name, info]) => [name, packed ? { ...info, storedAs: info.dtype } : info] as const)
  const read = async (name: string, rows?: Rows): Promise<Uint8Array> => {
    const place = places.get(name)
    if (!place) return checkpoint.read(name, rows)
    const { skip, bytes } = byteRange(place.info, rows)
    const whole = await readPlace(checkpoint, place)
    const cut = alignedBuffer(bytes)
    cut.set(whole.subarray(skip, skip + bytes))
    return cut
  }
  const { quantization_config: _, ...config } = checkpoint.config
  return {
    path: checkpoint.path,
    config: packed ? config : checkpoint.config,
    decimals: checkpoint.decimals,
    quantised: packed
      ? { types: ['MXFP4'], bytes: [...checkpoint.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0) }
      : undefined,
    ...(checkpoint.shardBytes === undefined ? {} : { shardBytes: checkpoint.shardBytes }),
    tensors: new Map([...others, ...[...places].map(([name, { info }]) => [name, info] as const)]),
    read,
    ...(packed ? { readStored: (name, rows) => readPacked(checkpoint, places.get(name), rows) ?? read(name, rows) } : {}),
    async readFloat32(name, rows) {
      return toFloat32(await read(name, rows), (places.get(name)?.info ?? checkpoint.tensors.get(name))?.dtype ?? 'F32')
    },
    close: () => checkpoint.close(),
  }
}

/** Locates the experts' tensors of one mixture. Throws `invalid` if a tensor is missing or has the wrong number of dimensions. */
function placesOf(checkpoint: Checkpoint, mixture: string): Place[] {
  const find = (name: string, dimensions: number): TensorInfo | undefined => {
    const info = checkpoint.tensors.get(`${mixture}.${name}`)
    if (info && info.shape.length !== dimensions)
      throw new EspalierError(
        'invalid',
        `${checkpoint.path}: tensor "${info.name}" has ${info.shape.length} dimensions, but must have ${dimensions}.`,
      )
    return info
  }
  const need = (name: string, dimensions: number): TensorInfo => {
    const info = find(name, dimensions)
    if (info) return info
    throw new EspalierError('invalid', `${checkpoint.path}: tensor "${mixture}.${name}" is missing. Its mixture needs it.`)
  }
  return (['gate', 'up', 'down'] as const).flatMap((part) => {
    const stem = part === 'down' ? 'down_proj' : 'gate_up_proj'
    const plain = find(stem, 3)
    const blocks = plain ? undefined : need(`${stem}_blocks`, 4)
    if (blocks) need(`${stem}_scales`, 3)
    const bias = need(`${stem}_bias`, 2)
    const share = part === 'down' ? 1 : 2
    const shape = plain
      ? [at(plain.shape, 2) / share, at(plain.shape, 1)]
      : [at(blocks?.shape ?? [], 1) / share, 32 * at(blocks?.shape ?? [], 2)]
    const dtype: Dtype = plain?.dtype ?? 'BF16'
    return Array.from({ length: at(bias.shape, 0) }, (_, expert) => [
      placeOf(
        `${mixture}.${expert}.${part}_proj.weight`,
        { dtype, shape, ...(plain ? {} : { storedAs: 'MXFP4', quantisedAs: 'MXFP4' }) },
        { source: `${mixture}.${stem}`, packed: !plain, expert, part, bias: false },
      ),
      placeOf(
        `${mixture}.${expert}.${part}_proj.bias`,
        { dtype: bias.dtype, shape: [at(bias.shape, 1) / share] },
        { source: bias.name, packed: false, expert, part, bias: true },
      ),
    ]).flat()
  })
}

function placeOf(name: string, about: Pick<TensorInfo, 'dtype' | 'shape' | 'storedAs' | 'quantisedAs'>, rest: Omit<Place, 'info'>): Place {
  const { dtype, shape } = about
  return { ...rest, info: { ...about, name, bytes: shape.reduce((product, size) => product * size, elementBytes(dtype)) } }
}

async function readPlace(checkpoint: Checkpoint, { info, source, packed, expert, part, bias }: Place): Promise<Uint8Array> {
  const { dtype, shape } = info
  const [rows = 1, columns = 1] = shape
  const [step, first] = turnOf(part)
  if (packed) {
    const values = await readMxfp4(checkpoint, source, expert, step * rows)
    return fromFloat32(takeRows(values, columns, { rows, step, first }), dtype as FloatDtype)
  }
  // An expert's bias is one stored row. Its matrix is stored transposed, as one row per column.
  const stored = bias ? 1 : columns
  const bytes = await checkpoint.read(source, { first: expert * stored, count: stored })
  return takeColumns(bytes, elementBytes(dtype), { rows, columns: bias ? 1 : columns, step, first })
}

/** Gates and ups alternate, so a part's rows are every `step`-th stored row, starting with `first`. */
const turnOf = (part: Part): [step: number, first: number] => (part === 'down' ? [1, 0] : [2, part === 'up' ? 1 : 0])

/** Reads rows of an expert's matrix in the form of a GGUF file. Returns undefined if the tensor is not stored in MXFP4 blocks. */
function readPacked(checkpoint: Checkpoint, place: Place | undefined, rows?: Rows): Promise<Uint8Array> | undefined {
  if (!place?.packed) return undefined
  const [all = 1] = place.info.shape
  const { first, count } = rows ?? { first: 0, count: all }
  const [step, offset] = turnOf(place.part)
  const begin = step * (place.expert * all + first)
  return readBlocks(checkpoint, place.source, { first: begin, count: step * count }).then(({ codes, scales }) => {
    const taken = (bytes: Uint8Array) => takeRows(bytes, bytes.length / (step * count), { rows: count, step, first: offset })
    return ggufMxfp4(taken(codes), taken(scales))
  })
}

async function readMxfp4(checkpoint: Checkpoint, source: string, expert: number, rows: number): Promise<Float32Array> {
  const { codes, scales } = await readBlocks(checkpoint, source, { first: expert * rows, count: rows })
  return decodeMxfp4(codes, scales)
}

async function readBlocks(checkpoint: Checkpoint, source: string, { first, count }: Rows) {
  const groups = at(checkpoint.tensors.get(`${source}_blocks`)?.shape ?? [], 2)
  const [codes, scales] = await Promise.all([
    checkpoint.read(`${source}_blocks`, { first: first * groups, count: count * groups }),
    checkpoint.read(`${source}_scales`, { first, count }),
  ])
  return { codes, scales }
}

function takeRows<Values extends Float32Array | Uint8Array>(
  values: Values,
  columns: number,
  { rows, step, first }: Omit<Transposition, 'columns'>,
): Values {
  const taken = new (values.constructor as new (length: number) => Values)(rows * columns)
  for (let row = 0; row < rows; row++) {
    const begin = (step * row + first) * columns
    taken.set(values.subarray(begin, begin + columns), row * columns)
  }
  return taken
}
