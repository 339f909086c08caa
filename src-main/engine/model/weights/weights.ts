import { type Tensor, type Tensor1D, type Tensor2D, tensor } from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import {
  type DecoderSpec,
  defined,
  hasExperts,
  layoutOf,
  mlpEntries,
  type NormTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import { activeBackend, type StoredType, type StoredWeight } from '#engine/backend/active.ts'
import { type QuantisedType, quantisedType } from '#engine/backend/ggml/quantised-types.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { countNonFinite, countNonFiniteStored, type Dtype, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { bytesOfValues, decodeBlocks } from '#engine/checkpoint/gguf/value-blocks.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import type { Matrix } from '#engine/tensor/products.ts'

/**
 * The attention of one block, or the token mixer that replaces it. One matrix holds all projections from the stream: queries, keys and
 * values [(H + 2K) d, D], and gates if there are any. The projection of queries, or the norm on them, includes the scale of scores.
 */
export interface AttentionWeights<M extends Matrix = Tensor2D> {
  readonly norm?: NormWeights
  readonly queryNorm?: NormWeights
  readonly keyNorm?: NormWeights
  readonly outputNorm?: NormWeights
  readonly delta?: DeltaWeights
  readonly sinks?: Tensor1D
  readonly queryKeyValue: M
  readonly queryKeyValueBias?: Tensor1D
  readonly output: M
  readonly outputBias?: Tensor1D
  /** A matrix that the residual stream is multiplied by before the output is added (SliceGPT). */
  readonly shortcut?: Tensor2D
}

/** The weights of a Gated DeltaNet besides its projections. */
export interface DeltaWeights {
  /** For each channel of queries, keys and values, the weights of its last k inputs, the current input last: [channels, k]. */
  readonly convolution: Tensor2D
  /** For each value head, the negative rate at which it forgets, and the offset that is added to its projected rate: [Hv]. */
  readonly decayRate: Tensor1D
  readonly decayBias: Tensor1D
  /** The norm on each head's result. */
  readonly readNorm: NormWeights
}

/** The MLP of one block: gate and up [I, D], down [D, I]. */
export interface MlpWeights<M extends Matrix = Tensor2D> {
  readonly norm?: NormWeights
  readonly outputNorm?: NormWeights
  readonly gate?: M
  readonly gateBias?: Tensor1D
  readonly up: M
  readonly upBias?: Tensor1D
  readonly down: M
  readonly downBias?: Tensor1D
  readonly shortcut?: Tensor2D
}

/** A mixture of experts instead of an MLP. An expert may have been replaced by a constant output, a vector [D]. */
export interface MixtureWeights<M extends Matrix = Tensor2D> {
  readonly norm?: NormWeights
  readonly outputNorm?: NormWeights
  readonly shortcut?: Tensor2D
  /** The router, [E, D]. It is always in float32, because a rounded router would choose other experts. */
  readonly router: Tensor2D
  readonly routerBias?: Tensor1D
  readonly correction?: Tensor1D
  readonly experts: readonly (MlpWeights<M> | ConstantWeights | UnreadExpert<M>)[]
  readonly shared?: MlpWeights<M>
  readonly sharedGate?: Tensor2D
}

interface ConstantWeights {
  readonly constant: Tensor1D
}

/** An expert of a mixture that does not fit in memory. Every read returns new weights, which belong to the caller. */
export interface UnreadExpert<M extends Matrix = Tensor2D> {
  /** Starts to read the weights, because they will be needed soon. */
  readAhead(): void
  read(): Promise<MlpWeights<M>>
  /** Whether its weights are packed for products of 16-bit operands. */
  readonly packed?: true
}

export const isUnread = <M extends Matrix>(expert: MixtureWeights<M>['experts'][number]): expert is UnreadExpert<M> => 'read' in expert

/** The weights of a part that is an MLP. Throws if it is a mixture. */
export function mlpOfWeights<M extends Matrix>({ mlp }: PartWeights<M>): MlpWeights<M> {
  if (mlp) return mlp
  throw hasExperts()
}

/** A submodule: part 2b is the attention of block b, part 2b + 1 its MLP. Parts run in ascending order. */
export type Part = number
export const attentionOf = (block: number): Part => 2 * block
export const mlpOf = (block: number): Part => 2 * block + 1
export const blockOf = (part: Part): number => part >> 1
export const isAttention = (part: Part): boolean => part % 2 === 0

export type PartWeights<M extends Matrix = Tensor2D> =
  | { readonly attention: AttentionWeights<M>; readonly mlp?: never; readonly mixture?: never }
  | { readonly mlp: MlpWeights<M>; readonly attention?: never; readonly mixture?: never }
  | { readonly mixture: MixtureWeights<M>; readonly attention?: never; readonly mlp?: never }

/**
 * The bytes of a part as stored, and as float32. `byExpert` is the size in float32 of a mixture of which only two experts are in memory at
 * a time, and equals `float32` for other parts.
 */
interface PartSize {
  readonly stored: number
  readonly float32: number
  readonly byExpert: number
}

/** The packed tensors of a part under the keys of `partNames`. Each has its name in the checkpoint. */
export type PackedPart = Readonly<Record<string, NamedTensor>>
export type NamedTensor = PackedTensor & { readonly name: string }

type NamedEntry = Projection | NormTensors | ShapedTensor
export type NamedEntries = Readonly<Record<string, NamedEntry>>

/** Describes the tensors of a part, by their roles in it. */
export function partNames(spec: DecoderSpec, part: Part): Record<string, NamedEntry> {
  const block = spec.block(blockOf(part))
  if (isAttention(part)) {
    const { attentionNorm: norm, query, key, value, queryNorm, keyNorm, delta, sinks, output, attentionOutputNorm: outputNorm } = block
    const others = { norm, queryNorm, keyNorm, outputNorm, sinks, shortcut: block.attentionShortcut }
    return { query, key, value, output, ...delta, ...defined(others) }
  }
  const { mlpOutputNorm: outputNorm, mlpShortcut: shortcut } = block
  const norm = block.mlpNorm ?? (spec.parallelResidual ? block.attentionNorm : undefined)
  return { ...mlpEntries(block), ...defined({ norm, outputNorm, shortcut }) }
}

const isProjection = (entry: NamedEntry): entry is Projection => 'rows' in entry

/** The shape of a tensor that is not a projection. */
const shapeOf = (entry: NormTensors | ShapedTensor, spec: DecoderSpec): readonly number[] =>
  'shape' in entry ? entry.shape : [entry.size ?? spec.hidden]

/** The shapes of a part's tensors, under the keys of a packed part. The width of the MLP is that of the spec's layout. */
export function partShapes(spec: DecoderSpec, part: Part): Record<string, readonly number[]> {
  const { width } = layoutOf(spec, blockOf(part))
  const shapes: Record<string, readonly number[]> = {}
  for (const [key, entry] of Object.entries(partNames(spec, part))) {
    if (!isProjection(entry)) {
      shapes[key] = shapeOf(entry, spec)
      if ('bias' in entry && entry.bias) shapes[`${key}Bias`] = shapeOf(entry, spec)
      continue
    }
    const role = isAttention(part) || key.startsWith('shared') ? '' : key.replace(/^experts\.\d+\./, '')
    const rows = role === 'up' || role === 'gate' ? width : entry.rows
    shapes[key] = [rows, role === 'down' ? width : entry.columns]
    if (entry.bias) shapes[`${key}Bias`] = [rows]
  }
  return shapes
}

/** The shapes of all tensors that a model with this spec needs, by their names in the checkpoint. */
export function neededShapes(spec: DecoderSpec): ReadonlyMap<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>()
  const need = (name: string, rows: number, ...rest: readonly number[]) => {
    shapes.set(name, [Math.max(rows, shapes.get(name)?.[0] ?? 0), ...rest])
  }
  const needNorm = (norm: NormTensors | ShapedTensor) => {
    const [rows = 0, ...rest] = shapeOf(norm, spec)
    need(norm.weight, rows, ...rest)
    if ('bias' in norm && norm.bias) need(norm.bias, rows)
  }
  need(spec.embedding, spec.vocabulary, spec.sliceWidth ?? spec.hidden)
  need(spec.head.weight, spec.vocabulary, spec.hidden)
  if (spec.head.bias) need(spec.head.bias, spec.vocabulary)
  needNorm(spec.finalNorm)
  for (const part of presentParts(spec)) {
    for (const entry of Object.values(partNames(spec, part))) {
      if (!isProjection(entry)) needNorm(entry)
      else {
        if (entry.shape) shapes.set(entry.weight, entry.shape)
        else need(entry.weight, entry.firstRow + entry.rows, entry.columns)
        if (entry.bias) need(entry.bias, entry.firstRow + entry.rows)
      }
    }
  }
  return shapes
}

/** Throws unless every tensor that the spec needs exists with the right shape. Reads no weights. */
export function checkTensors(checkpoint: Checkpoint, spec: DecoderSpec): void {
  for (const [name, expected] of neededShapes(spec)) {
    const info = checkpoint.tensors.get(name)
    if (!info)
      throw new EspalierError(
        'invalid',
        `${checkpoint.path}: tensor "${name}" is missing. config.json describes a ${spec.family} model that needs it.`,
      )
    if (info.shape.join() !== expected.join()) {
      throw new EspalierError(
        'invalid',
        `${checkpoint.path}: tensor "${name}" has shape [${info.shape.join(', ')}]; by config.json it must be [${expected.join(', ')}].`,
      )
    }
  }
}

/** The parts that the spec's layout still has, in running order. */
export function presentParts(spec: DecoderSpec): Part[] {
  return spec.blocks.flatMap((layout, block) => [
    ...(layout.attention ? [attentionOf(block)] : []),
    ...(layout.width > 0 ? [mlpOf(block)] : []),
  ])
}

export function partSize(checkpoint: Checkpoint, spec: DecoderSpec, part: Part): PartSize {
  const { around, experts } = dividePart(partNames(spec, part))
  const [rest, ...ofExperts] = [around, ...experts.values()].map((entries) => entriesSize(checkpoint, spec, entries))
  const largest = ofExperts.reduce((maximum, { float32 }) => Math.max(maximum, float32), 0)
  const sum = (what: 'stored' | 'float32') => ofExperts.reduce((total, size) => total + size[what], rest?.[what] ?? 0)
  return { stored: sum('stored'), float32: sum('float32'), byExpert: (rest?.float32 ?? 0) + 2 * largest }
}

export function entriesSize(checkpoint: Checkpoint, spec: DecoderSpec, named: NamedEntries): Pick<PartSize, 'stored' | 'float32'> {
  let float32 = 0
  let stored = 0
  for (const entry of Object.values(named)) {
    const entries = isProjection(entry) ? entry.rows * entry.columns : shapeOf(entry, spec).reduce((a, b) => a * b, 1)
    const info = checkpoint.tensors.get(entry.weight)
    const quantised = blocksType(checkpoint, entry.weight)
    float32 += 4 * entries
    if (quantised) stored += bytesOfValues(quantised, entries)
    else stored += info ? (info.bytes / info.shape.reduce((a, b) => a * b, 1)) * entries : 4 * entries
  }
  return { stored, float32 }
}

/**
 * Divides a part's tensors into those of each expert, by number and under the keys of an MLP, and all others, which include vectors that
 * replace experts.
 */
export function dividePart(names: NamedEntries): { around: NamedEntries; experts: ReadonlyMap<number, NamedEntries> } {
  const around: Record<string, NamedEntry> = {}
  const experts = new Map<number, Record<string, NamedEntry>>()
  for (const [key, entry] of Object.entries(names)) {
    const [, number, ownKey] = /^experts\.(\d+)\.(?!constant)(.+)$/.exec(key) ?? []
    if (ownKey === undefined) around[key] = entry
    else experts.set(Number(number), { ...experts.get(Number(number)), [ownKey]: entry })
  }
  return { around, experts }
}

/** The quantised type of a tensor that is kept in blocks until it is used; undefined for other tensors. */
function blocksType({ tensors }: Checkpoint, name: string): QuantisedType | undefined {
  const type = tensors.get(name)?.quantisedAs
  return type === undefined ? undefined : quantisedType(type)
}

/** Reads a tensor as float32. Throws if a value is not finite. */
export async function readValues(checkpoint: Checkpoint, name: string, rows?: { first: number; count: number }): Promise<Float32Array> {
  const values = await checkpoint.readFloat32(name, rows)
  requireFinite(checkpoint, name, countNonFinite(values))
  return values
}

function requireFinite(checkpoint: Checkpoint, name: string, bad: number): void {
  if (bad === 0) return
  throw new EspalierError(
    'invalid',
    `${checkpoint.path}: tensor "${name}" has ${bad} values that are not finite (NaN or infinity). The file is damaged or the model's training diverged. Download it again.`,
  )
}

/** Reads all tensors of a part concurrently, so that the disk is busy while the processor computes. */
export const readPart = (checkpoint: Checkpoint, spec: DecoderSpec, part: Part): Promise<PackedPart> =>
  readEntries(checkpoint, spec, partNames(spec, part))

/** Reads some tensors of a part concurrently. */
export async function readEntries(checkpoint: Checkpoint, spec: DecoderSpec, entries: NamedEntries): Promise<PackedPart> {
  const packed: Record<string, NamedTensor> = {}
  const dtypeOf = (name: string) => checkpoint.tensors.get(name)?.dtype ?? 'F32'
  const read = async (key: string, name: string, shape: number[], rows?: { first: number; count: number }) => {
    const quantised = blocksType(checkpoint, name)
    const blocks = quantised && (await checkpoint.readStored?.(name, rows))
    packed[key] = { name, ...(blocks ? pack(blocks, quantised, shape) : pack(await checkpoint.read(name, rows), dtypeOf(name), shape)) }
  }
  const reads = Object.entries(entries).flatMap(([key, entry]) => {
    if (!isProjection(entry)) {
      const shape = [...shapeOf(entry, spec)]
      return [read(key, entry.weight, shape), ...('bias' in entry && entry.bias ? [read(`${key}Bias`, entry.bias, shape)] : [])]
    }
    const rows = { first: entry.firstRow, count: entry.rows }
    return [
      read(key, entry.weight, [entry.rows, entry.columns], rows),
      ...(entry.bias ? [read(`${key}Bias`, entry.bias, [entry.rows], rows)] : []),
    ]
  })
  // If one read fails, wait for the others before throwing, so that none continues after the tensors are disposed of.
  const failed = (await Promise.allSettled(reads)).find(({ status }) => status === 'rejected')
  if (!failed) return packed
  disposePacked(packed)
  throw (failed as PromiseRejectedResult).reason
}

/** Throws if a value is not finite. */
export function checkValues(checkpoint: Checkpoint, part: PackedPart): void {
  for (const { name, countNonFinite } of Object.values(part)) requireFinite(checkpoint, name, countNonFinite())
}

export function disposePacked(part: PackedPart): void {
  for (const packed of Object.values(part)) packed.dispose()
}

/** A tensor's values as a checkpoint stores them. 16-bit values take half the memory of float32, and quantised values less. */
interface PackedTensor {
  /** Counts the values that are NaN or infinite. Call it before the first `unpack`, which may release the bytes. */
  countNonFinite(): number
  /** Returns the values as a float32 tensor, which the caller disposes of. */
  unpack(): Tensor
  dispose(): void
}

const sixteenBits = { BF16: 'bfloat16', F16: 'float16' } as const

/** The type in which a runtime may be able to store such values as they are; undefined for types that none stores. */
function storedType(type: Dtype | QuantisedType): StoredType | undefined {
  if (typeof type !== 'string') return type
  return type === 'BF16' || type === 'F16' ? sixteenBits[type] : undefined
}

/**
 * Packs stored bytes, whose memory it takes over. On the first `unpack` they move into the runtime, if it can unpack their type itself,
 * which is faster than unpacking in this process.
 */
export function pack(bytes: Uint8Array, type: Dtype | QuantisedType, shape: readonly number[]): PackedTensor {
  const ofRuntime = storedType(type)
  let stored: StoredWeight | undefined
  /** Values that `countNonFinite` has unpacked, kept for the next `unpack`. */
  let counted: Float32Array | undefined
  const unpackHere = () => {
    const values = counted ?? (typeof type === 'string' ? toFloat32(bytes, type) : decodeBlocks(bytes, type))
    counted = undefined
    return tensor(values, [...shape])
  }
  return {
    countNonFinite() {
      if (typeof type === 'string') return countNonFiniteStored(bytes, type)
      counted = decodeBlocks(bytes, type)
      return countNonFinite(counted)
    },
    unpack() {
      if (counted || !ofRuntime) return unpackHere()
      if (!stored) {
        stored = activeBackend().store?.(bytes, ofRuntime)
        if (stored && !stored.usesBytes) releaseBuffer(bytes)
      }
      return stored?.unpack(shape) ?? unpackHere()
    },
    dispose() {
      stored?.dispose()
      // Float32 tensors made from the bytes may still use them in place.
      if (type !== 'F32') releaseBuffer(bytes)
    },
  }
}
