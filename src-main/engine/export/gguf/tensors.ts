import { EspalierError } from '#contract/errors.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { countNonFinite, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type EncodedTypeName, encodedBytes, encodedTypes, encodeValues } from '#engine/checkpoint/gguf/encode-blocks.ts'
import type { GgufTensorToWrite } from '#engine/checkpoint/gguf/write-gguf.ts'
import type { TensorToWrite } from '#engine/checkpoint/write-safetensors.ts'
import { fitType, type Mix, matters } from './mix.ts'
import type { GgufTarget } from './target.ts'

/** The tensors of a GGUF file from those of the pruned model, under the architecture's names: rows in its order, in the mix's types. */
export function ggufTensors(spec: DecoderSpec, target: GgufTarget, mix: Mix, tensors: readonly TensorToWrite[]): GgufTensorToWrite[] {
  const tied = !tensors.some(({ name }) => name === 'output.weight')
  const copied = tied && target.dialect.needsHead ? tensors.filter(({ name }) => name === target.names.embedding) : []
  const all = [...tensors, ...copied.map((tensor) => ({ ...tensor, name: 'output.weight' }))]
  const types = chooseTypes(all, mix, tied)
  return all.map((tensor, index) => {
    const rows = interleavedRows(tensor.name, target, spec.headSize)
    const type = types[index] as EncodedTypeName
    return { name: tensor.name, type, shape: tensor.shape, bytes: async () => convert(tensor, type, rows, offsetOf(spec, tensor)) }
  })
}

/** The type of each tensor: vectors stay in float32. */
function chooseTypes(tensors: readonly TensorToWrite[], mix: Mix, tied: boolean): EncodedTypeName[] {
  const partOf = ({ name }: TensorToWrite) => name.split('.').at(-2) ?? ''
  const counts = new Map<string, number>()
  for (const tensor of tensors) counts.set(partOf(tensor), (counts.get(partOf(tensor)) ?? 0) + 1)
  const seen = new Map<string, number>()
  return tensors.map((tensor) => {
    const part = partOf(tensor)
    const index = seen.get(part) ?? 0
    seen.set(part, index + 1)
    if (tensor.shape.length === 1) return 'F32'
    return fitType(wantedType(part, mix, tied, matters(index, counts.get(part) ?? 0)), tensor.shape[1] ?? 1)
  })
}

function wantedType(part: string, mix: Mix, tied: boolean, important: boolean): EncodedTypeName {
  if (part === 'output' || (part === 'token_embd' && tied)) return mix.head
  if (part === 'attn_qkv') return mix.joined ?? mix.main
  if (important && (part === 'attn_v' || part === 'ffn_down')) return mix.more ?? mix.main
  return mix.main
}

/** Values that the smallest blocks of quantised types hold. */
const quantisedTogether = 32

/**
 * Zero neurons are added up to the number at which a mix stores an MLP in the fewest bytes: a multiple of 32 at least, in 16 bits too, so
 * that llama.cpp's quantiser finds rows in such a file that it can quantise. Nothing is added in 32 bits, nor where the stream itself is
 * no such multiple and nothing can be quantised.
 */
export function paddedWidth(width: number, hidden: number, gated: boolean, mix: Mix): number {
  if (mix.main === 'F32' || hidden % quantisedTogether !== 0) return width
  const block = Math.max(quantisedTogether, encodedTypes[mix.main].values)
  const bytes = (candidate: number) =>
    (gated ? 2 : 1) * candidate * encodedBytes(fitType(mix.main, hidden), hidden) +
    hidden * encodedBytes(fitType(mix.more ?? mix.main, candidate), candidate)
  const [narrow, wide] = [quantisedTogether, block].map((multiple) => Math.ceil(width / multiple) * multiple) as [number, number]
  return bytes(wide) < bytes(narrow) ? wide : narrow
}

function interleavedRows(name: string, { dialect }: GgufTarget, headSize: number): number | undefined {
  return dialect.interleaved && /\.attn_[qk]\.(weight|bias)$/.test(name) ? headSize : undefined
}

/** What a family adds to its norms' weights when it computes, which llama.cpp wants added in the file. */
function offsetOf(spec: DecoderSpec, { name, shape }: TensorToWrite): number {
  const offset = (spec.norm as { offset?: number }).offset ?? 0
  return shape.length === 1 && /norm\.weight$/.test(name) ? offset : 0
}

// Values converted at a time: whole rows of about this many.
const chunk = 2 ** 20

async function convert(tensor: TensorToWrite, type: EncodedTypeName, headRows: number | undefined, offset: number): Promise<Uint8Array> {
  const stored = await tensor.bytes()
  const [rows = 1, columns = 1] = tensor.shape
  const bytes = headRows === undefined ? stored : interleave(stored, stored.byteLength / rows, headRows)
  if (type === tensor.dtype && offset === 0) return bytes
  const result = new Uint8Array(encodedBytes(type, rows * columns))
  const rowsAtOnce = Math.max(1, Math.floor(chunk / columns)) * (tensor.shape.length === 1 ? chunk : 1)
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - first)
    const size = bytes.byteLength / rows
    const values = toFloat32(bytes.subarray(first * size, (first + count) * size), tensor.dtype)
    const encoded = encodeValues(offset === 0 ? values : values.map((value) => value + offset), type)
    if (type === 'F16') requireHalf(tensor.name, encoded)
    result.set(encoded, encodedBytes(type, first * columns))
    // Quantising takes seconds: others get their turn between chunks.
    await new Promise(setImmediate)
  }
  return result
}

function requireHalf(name: string, bytes: Uint8Array): void {
  if (countNonFinite(toFloat32(bytes, 'F16')) === 0) return
  throw new EspalierError('infeasible', `Tensor ${name} has values beyond 65504, which F16 cannot hold. Choose the GGUF type BF16 or F32.`)
}

/** Rows of each head as llama.cpp turns them: the first and the second half take turns. */
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
