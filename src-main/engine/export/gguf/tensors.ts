import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { hasOffset, headsAreColumns, isDecay, rangesInFile } from '#engine/architectures/delta-names.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { columnCount, type Rows, rowCount } from '#engine/checkpoint/checkpoint.ts'
import { countNonFinite, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type BlockType, blockTypeNamed, bytesOfValues, encodeRows } from '#engine/checkpoint/gguf/blocks.ts'
import type { GgufTensorToWrite } from '#engine/checkpoint/gguf/write-gguf.ts'
import type { TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import type { PrunedTensor } from '../pieces.ts'
import { chosenType, fitType, type Mix, type MixPart, rowMultiple } from './mix.ts'
import type { GgufTarget } from './target.ts'

/**
 * Converts the tensors of a pruned model to those of a GGUF file: with the architecture's names and row order, and the mix's types.
 * Quantisation errors are weighted by importances, if there are any.
 */
export function ggufTensors(
  spec: DecoderSpec,
  target: GgufTarget,
  mix: Mix,
  tensors: readonly PrunedTensor[],
  importances?: ReadonlyMap<string, Float32Array>,
): GgufTensorToWrite[] {
  const tied = !tensors.some(({ name }) => name === 'output.weight')
  const copied = tied && target.dialect.needsHead ? tensors.filter(({ name }) => name === target.names.embedding) : []
  const all = [...tensors, ...copied.map((tensor) => ({ ...tensor, name: 'output.weight' }))]
  const types = chooseTypes(all, target, mix)
  return all.map((tensor, index) => {
    const type = types[index] as BlockType
    const conversion = {
      type,
      headRows: interleavedRows(tensor.name, target, spec.headSize),
      change: changeOf(spec, tensor),
      ranges: rangesInFile(tensor, spec.delta),
      importances: type.dtype ? undefined : importances?.get(tensor.name),
    }
    return { name: tensor.name, type, shape: tensor.shape, bytes: async () => convert(tensor, conversion) }
  })
}

const parts: Readonly<Record<string, MixPart>> = {
  output: 'head',
  token_embd: 'embedding',
  attn_q: 'query',
  attn_k: 'key',
  attn_v: 'value',
  attn_qkv: 'value',
  attn_output: 'output',
  ffn_gate: 'gate',
  ffn_up: 'up',
  ffn_down: 'down',
  ffn_gate_exps: 'gate',
  ffn_up_exps: 'up',
  ffn_down_exps: 'down',
  ffn_gate_shexp: 'gate',
  ffn_up_shexp: 'up',
  ffn_down_shexp: 'down',
}

/**
 * Matrices that llama.cpp's quantiser keeps in float32: routers, which choose by small differences, and convolution kernels, which are
 * small.
 */
const router = /\.(ffn_gate_inp(_shexp)?|ssm_conv1d)\.weight$/

/** Architectures whose models with 80 blocks llama.cpp treats as its 70B. */
const large = ['llama', 'deci', 'qwen2']

/** Chooses the type of each tensor. Vectors stay in float32. */
function chooseTypes(tensors: readonly PrunedTensor[], { dialect, heads, blocks, experts }: GgufTarget, mix: Mix): BlockType[] {
  const isTied = !tensors.some(({ name }) => name === 'output.weight')
  const found = tensors.map(({ name }) => (name.endsWith('.bias') ? undefined : parts[name.split('.').at(-2) ?? '']))
  const values = found.filter((part) => part === 'value').length
  const { query, keyValue } = heads[0] ?? { query: 1, keyValue: 1 }
  const isLarge = blocks.length === 80 && large.includes(dialect.architecture)
  const model = { shared: keyValue === 0 ? 0 : query / keyValue, isLarge, experts: experts ?? 0 }
  const seen = new Map<MixPart | undefined, number>()
  return tensors.map((tensor, position) => {
    const { name, shape } = tensor
    const part = found[position]
    const seenBefore = seen.get(part) ?? 0
    seen.set(part, seenBefore + 1)
    if (shape.length === 1 || router.test(name) || name.endsWith('.bias')) return blockTypeNamed('F32')
    if (mix.asStored) return blockTypeNamed(keptType(tensor))
    const width = columnCount(shape)
    // A mixture and its shared expert each have one tensor per block.
    const index = experts !== undefined && /^blk\.\d+\.ffn_/.test(name) ? Number(name.split('.')[1]) : seenBefore
    const place = { ...model, index, count: part === 'value' ? values : blocks.length, isExpert: shape.length > 2 }
    return blockTypeNamed(fitType(chosenType(mix, isTied && part === 'embedding' ? 'head' : part, place, width), width))
  })
}

/** The type of a tensor in its source file. Throws if its rows were changed. */
function keptType({ name, stored }: PrunedTensor): string {
  if (stored) return stored.type
  throw new EspalierError(
    'infeasible',
    `Tensor ${name} differs from the source: its neurons were cut, or it was refitted, zeroed or scaled by gateCorrection=fitted. The GGUF type SOURCE can only remove whole experts, blocks and attention submodules from a GGUF file or a folder in MXFP4. Choose another type.`,
  )
}

/** Number of values in the smallest blocks of quantised types. */
const quantisedTogether = 32

/**
 * The width to which an MLP is padded with zero neurons: the one that a mix stores in the fewest bytes. It is a multiple of 32 even in 16
 * bits, so that llama.cpp's quantiser can quantise the file later. Nothing is padded in F32, or if the hidden size is not a multiple of 32,
 * because then nothing can be quantised.
 */
export function paddedWidth(width: number, hidden: number, gated: boolean, mix: Mix): number {
  if (mix.main === 'F32' || hidden % quantisedTogether !== 0) return width
  const block = Math.max(quantisedTogether, rowMultiple(mix))
  const rowBytes = (length: number) => bytesOfValues(blockTypeNamed(fitType(mix.main, length)), length)
  const bytes = (candidate: number) => (gated ? 2 : 1) * candidate * rowBytes(hidden) + hidden * rowBytes(candidate)
  const [narrow, wide] = [quantisedTogether, block].map((multiple) => Math.ceil(width / multiple) * multiple) as [number, number]
  return bytes(wide) < bytes(narrow) ? wide : narrow
}

function interleavedRows(name: string, { dialect }: GgufTarget, headSize: number): number | undefined {
  return dialect.interleaved && /\.attn_[qk]\.(weight|bias)$/.test(name) ? headSize : undefined
}

/**
 * How the values of a tensor change in a GGUF file: a family's offset is added to norm weights, and a DeltaNet's rate replaces its
 * logarithm.
 */
function changeOf({ norm: { offset = 0 } }: DecoderSpec, { name, shape }: TensorToWrite): Conversion['change'] {
  if (isDecay(name)) return (value) => -Math.exp(value)
  return shape.length === 1 && offset !== 0 && hasOffset(name) ? (value) => value + offset : undefined
}

// Whole rows of about this many values are converted at a time.
const chunk = 2 ** 20

interface Conversion {
  readonly type: BlockType
  readonly headRows: number | undefined
  readonly change: ((value: number) => number) | undefined
  /** Where the rows go in the file, or the columns if heads are columns. */
  readonly ranges: readonly Rows[] | undefined
  readonly importances: Float32Array | undefined
}

async function convert(tensor: PrunedTensor, conversion: Conversion): Promise<Uint8Array> {
  const { type, change, importances } = conversion
  const asStored = tensor.stored?.type === type.name
  const stored = await (asStored ? tensor.stored.bytes() : tensor.bytes())
  const rows = rowCount(tensor.shape)
  const columns = columnCount(tensor.shape)
  const bytes = inOrder(tensor, conversion, stored, asStored)
  if (asStored || (type.name === tensor.dtype && !change)) return bytes
  const result = new Uint8Array(bytesOfValues(type, rows * columns))
  // The number of rows that share importances: each expert has its own.
  const group = tensor.shape.length > 2 ? at(tensor.shape, 1) : rows
  const rowsAtOnce = Math.max(1, Math.floor(chunk / columns)) * (tensor.shape.length === 1 ? chunk : 1)
  for (let first = 0; first < rows; ) {
    const count = Math.min(rowsAtOnce, group - (first % group))
    const size = bytes.byteLength / rows
    const values = toFloat32(bytes.subarray(first * size, (first + count) * size), tensor.dtype)
    if (!type.dtype) requireFinite(tensor.name, values, type)
    const own = importances?.subarray(...(importances.length > columns ? ofGroup(Math.floor(first / group), columns) : []))
    const encoded = await encodeRows(change ? values.map(change) : values, type, columns, own)
    if (type.dtype === 'F16') requireHalf(tensor.name, encoded)
    result.set(encoded, bytesOfValues(type, first * columns))
    first += count
    // Converting takes seconds, so other work gets a turn between chunks.
    await new Promise(setImmediate)
  }
  return result
}

/** Puts rows in llama.cpp's order. Columns copied from a GGUF file are in that order already. */
function inOrder({ name, shape }: PrunedTensor, { headRows, ranges }: Conversion, bytes: Uint8Array, asStored: boolean): Uint8Array {
  const rowBytes = bytes.byteLength / rowCount(shape)
  if (headRows !== undefined) return interleave(bytes, rowBytes, headRows)
  if (!ranges || (asStored && headsAreColumns(name))) return bytes
  return putAt(bytes, ranges, headsAreColumns(name) ? rowBytes / columnCount(shape) : rowBytes)
}

/** Moves entries to their ranges. If there are more entries, does so in every row of as many entries as the ranges have. */
function putAt(bytes: Uint8Array, ranges: readonly Rows[], entryBytes: number): Uint8Array {
  const result = new Uint8Array(bytes.byteLength)
  for (let from = 0; from < bytes.byteLength; ) {
    const row = from
    for (const { first, count } of ranges) {
      result.set(bytes.subarray(from, from + count * entryBytes), row + first * entryBytes)
      from += count * entryBytes
    }
  }
  return result
}

const ofGroup = (group: number, columns: number): [number, number] => [group * columns, (group + 1) * columns]

/** Throws for values that are not finite, because ggml would end the process. */
function requireFinite(name: string, values: Float32Array, { name: type }: BlockType): void {
  const count = countNonFinite(values)
  if (count === 0) return
  throw new EspalierError(
    'infeasible',
    `Tensor ${name} has ${count} values that are NaN or infinite, which ${type} cannot hold. Choose F32.`,
  )
}

function requireHalf(name: string, bytes: Uint8Array): void {
  if (countNonFinite(toFloat32(bytes, 'F16')) === 0) return
  throw new EspalierError('infeasible', `Tensor ${name} has values beyond 65504, which F16 cannot hold. Choose the GGUF type BF16 or F32.`)
}

/** Reorders the rows of each head as llama.cpp rotates them: rows of the first and the second half alternate. */
function interleave(bytes: Uint8Array, rowBytes: number, headRows: number): Uint8Array {
  const result = new Uint8Array(bytes.byteLength)
  const half = headRows / 2
  for (let row = 0; row * rowBytes < bytes.byteLength; row++) {
    const within = row % headRows
    const to = row - within + (within < half ? 2 * within : 2 * (within - half) + 1)
    result.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), to * rowBytes)
  }
  return result
}
