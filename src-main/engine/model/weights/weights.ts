import {
  add,
  concat,
  dispose,
  mul,
  reshape,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type TensorContainer,
  tidy,
} from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import { defined } from '#engine/architectures/defined.ts'
import {
  type DecoderSpec,
  layoutOf,
  type NormKind,
  type NormTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { countNonFinite } from '#engine/checkpoint/dtypes.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import type { Matrix } from '#engine/tensor/products.ts'
import { type DeltaWeights, decayRateOf } from '../delta-net.ts'
import { type PackedTensor, pack } from './packed.ts'

/**
 * Attention of one block, or the token mixer that stands in its place. All that it projects from the stream stands in one matrix: queries,
 * keys and values [(H + 2K) d, D], gates where it has them; queries, or the norm on them, are scaled.
 */
export interface AttentionWeights<M extends Matrix = Tensor2D> {
  readonly norm?: NormWeights
  readonly queryNorm?: NormWeights
  readonly keyNorm?: NormWeights
  readonly outputNorm?: NormWeights
  readonly delta?: DeltaWeights
  readonly queryKeyValue: M
  readonly queryKeyValueBias?: Tensor1D
  readonly output: M
  readonly outputBias?: Tensor1D
  /** What the residual is multiplied by before the output is added (SliceGPT). */
  readonly shortcut?: Tensor2D
}

/** MLP of one block: gate and up [I, D], down [D, I]. */
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

/** A submodule: part 2b is the attention of block b, part 2b + 1 its MLP. Parts run in ascending order. */
export type Part = number
export const attentionOf = (block: number): Part => 2 * block
export const mlpOf = (block: number): Part => 2 * block + 1
export const blockOf = (part: Part): number => part >> 1
export const isAttention = (part: Part): boolean => part % 2 === 0

export type PartWeights<M extends Matrix = Tensor2D> =
  | { readonly attention: AttentionWeights<M>; readonly mlp?: never }
  | { readonly mlp: MlpWeights<M>; readonly attention?: never }

/** Bytes of a part as stored and as float32 matrices. */
export interface PartSize {
  readonly stored: number
  readonly float32: number
}

/** The tensors of a part, packed, under the keys of `partNames`; each with its name in the checkpoint. */
export type PackedPart = Readonly<Record<string, NamedTensor>>
export type NamedTensor = PackedTensor & { readonly name: string }

type NamedEntry = Projection | NormTensors | ShapedTensor

/** The tensors of a part by what they are for. */
export function partNames(spec: DecoderSpec, part: Part): Record<string, NamedEntry> {
  const block = spec.block(blockOf(part))
  if (isAttention(part)) {
    const { attentionNorm: norm, query, key, value, queryNorm, keyNorm, delta, output, attentionOutputNorm: outputNorm } = block
    return { query, key, value, output, ...delta, ...defined({ norm, queryNorm, keyNorm, outputNorm, shortcut: block.attentionShortcut }) }
  }
  const { gate, up, down, mlpOutputNorm: outputNorm, mlpShortcut: shortcut } = block
  const norm = block.mlpNorm ?? (spec.parallelResidual ? block.attentionNorm : undefined)
  return { up, down, ...defined({ norm, gate, outputNorm, shortcut }) }
}

const isProjection = (entry: NamedEntry): entry is Projection => 'rows' in entry

/** Shape of a norm or of a tensor of its own kind. */
const shapeOf = (entry: NormTensors | ShapedTensor, spec: DecoderSpec): readonly number[] =>
  'shape' in entry ? entry.shape : [entry.size ?? spec.hidden]

/** Shapes of the tensors of a part that has the MLP width of the spec's layout, under the keys of a packed part. */
export function partShapes(spec: DecoderSpec, part: Part): Record<string, readonly number[]> {
  const { width } = layoutOf(spec, blockOf(part))
  const shapes: Record<string, readonly number[]> = {}
  for (const [key, entry] of Object.entries(partNames(spec, part))) {
    if (!isProjection(entry)) {
      shapes[key] = shapeOf(entry, spec)
      if ('bias' in entry && entry.bias) shapes[`${key}Bias`] = shapeOf(entry, spec)
      continue
    }
    const rows = key === 'up' || (key === 'gate' && !isAttention(part)) ? width : entry.rows
    shapes[key] = [rows, key === 'down' ? width : entry.columns]
    if (entry.bias) shapes[`${key}Bias`] = [rows]
  }
  return shapes
}

/** Checks that every tensor the spec names is there with the shape it must have, before anything is read. */
export function checkTensors(checkpoint: Checkpoint, spec: DecoderSpec): void {
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
        need(entry.weight, entry.firstRow + entry.rows, entry.columns)
        if (entry.bias) need(entry.bias, entry.firstRow + entry.rows)
      }
    }
  }
  for (const [name, expected] of shapes) {
    const info = checkpoint.tensors.get(name)
    if (!info)
      throw new EspalierError(
        'invalid',
        `${checkpoint.path}: tensor "${name}" is missing. config.json describes a ${spec.family} model that needs it.`,
      )
    if (info.shape.join() !== expected.join()) {
      throw new EspalierError(
        'invalid',
        `${checkpoint.path}: tensor "${name}" has shape [${info.shape.join(', ')}]; config.json makes it [${expected.join(', ')}].`,
      )
    }
  }
}

/** Parts that the spec's layout still has, in running order. */
export function presentParts(spec: DecoderSpec): Part[] {
  return spec.blocks.flatMap((layout, block) => [
    ...(layout.attention ? [attentionOf(block)] : []),
    ...(layout.width > 0 ? [mlpOf(block)] : []),
  ])
}

export function partSize(checkpoint: Checkpoint, spec: DecoderSpec, part: Part): PartSize {
  let float32 = 0
  let stored = 0
  for (const entry of Object.values(partNames(spec, part))) {
    const entries = isProjection(entry) ? entry.rows * entry.columns : shapeOf(entry, spec).reduce((a, b) => a * b, 1)
    const info = checkpoint.tensors.get(entry.weight)
    float32 += 4 * entries
    stored += info ? (info.bytes / info.shape.reduce((a, b) => a * b, 1)) * entries : 4 * entries
  }
  return { stored, float32 }
}

/** Reads a tensor as float32 and refuses values that are no numbers. */
export async function readValues(checkpoint: Checkpoint, name: string, rows?: { first: number; count: number }): Promise<Float32Array> {
  const values = await checkpoint.readFloat32(name, rows)
  requireFinite(checkpoint, name, countNonFinite(values))
  return values
}

function requireFinite(checkpoint: Checkpoint, name: string, bad: number): void {
  if (bad === 0) return
  throw new EspalierError(
    'invalid',
    `${checkpoint.path}: tensor "${name}" has ${bad} values that are not finite (NaN or infinity). The file is damaged or its training diverged; get it again.`,
  )
}

/** Reads all tensors of a part at once, so that the disk works while the processor computes. */
export async function readPart(checkpoint: Checkpoint, spec: DecoderSpec, part: Part): Promise<PackedPart> {
  const packed: Record<string, NamedTensor> = {}
  const read = async (key: string, name: string, shape: number[], rows?: { first: number; count: number }) => {
    const dtype = checkpoint.tensors.get(name)?.dtype ?? 'F32'
    packed[key] = { name, ...pack(await checkpoint.read(name, rows), dtype, shape) }
  }
  const reads = Object.entries(partNames(spec, part)).flatMap(([key, entry]) => {
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
  // All have ended before one that failed is told, so that nothing comes after what is given back.
  const failed = (await Promise.allSettled(reads)).find(({ status }) => status === 'rejected')
  if (!failed) return packed
  disposePacked(packed)
  throw (failed as PromiseRejectedResult).reason
}

/** Throws for values that are no numbers. */
export function checkValues(checkpoint: Checkpoint, part: PackedPart): void {
  for (const { name, countNonFinite } of Object.values(part)) requireFinite(checkpoint, name, countNonFinite())
}

export function disposePacked(part: PackedPart): void {
  for (const packed of Object.values(part)) packed.dispose()
}

/** The weights of a part as the decoder uses them, in float32. They belong to the caller. */
export function unpackPart(packed: PackedPart, spec: DecoderSpec, part: Part): PartWeights {
  const unpack = <T extends Tensor>(key: string): T | undefined => packed[key]?.unpack() as T | undefined
  const norm = (key: string, kind = spec.norm, scale = 1): NormWeights | undefined => {
    const weight = unpack<Tensor1D>(key)
    return weight && normOf(kind, weight, unpack<Tensor1D>(`${key}Bias`), scale)
  }
  const headNorm = spec.headNorm ?? spec.norm
  if (!isAttention(part)) {
    const matrices = { up: unpack<Tensor2D>('up') as Tensor2D, down: unpack<Tensor2D>('down') as Tensor2D }
    return {
      mlp: {
        ...matrices,
        ...defined({
          norm: norm('norm'),
          outputNorm: norm('outputNorm'),
          shortcut: unpack<Tensor2D>('shortcut'),
          gate: unpack<Tensor2D>('gate'),
          gateBias: unpack<Tensor1D>('gateBias'),
          upBias: unpack<Tensor1D>('upBias'),
          downBias: unpack<Tensor1D>('downBias'),
        }),
      },
    }
  }
  // A DeltaNet scales its queries itself, behind the convolution.
  const scaledLater = packed.queryNorm !== undefined || packed.convolution !== undefined
  const join = <T extends Tensor>(suffix: string): T | undefined => {
    if (!packed[`query${suffix}`]) return undefined
    return tidy(() => {
      const query = mul(unpack<T>(`query${suffix}`) as T, scaledLater ? 1 : spec.scoreScale)
      const others = ['key', 'value', 'gate', 'strength', 'rate'].map((key) => unpack<T>(`${key}${suffix}`))
      return concat([query, ...others.filter((other) => other !== undefined)], 0) as T
    })
  }
  return {
    attention: {
      queryKeyValue: join<Tensor2D>('') as Tensor2D,
      output: unpack<Tensor2D>('output') as Tensor2D,
      ...defined({
        norm: norm('norm'),
        queryNorm: norm('queryNorm', headNorm, spec.scoreScale),
        keyNorm: norm('keyNorm', headNorm),
        outputNorm: norm('outputNorm'),
        delta: packed.convolution && unpackDelta(unpack, headNorm.epsilon),
        shortcut: unpack<Tensor2D>('shortcut'),
        queryKeyValueBias: join<Tensor1D>('Bias'),
        outputBias: unpack<Tensor1D>('outputBias'),
      }),
    },
  }
}

function unpackDelta(unpack: <T extends Tensor>(key: string) => T | undefined, epsilon: number): DeltaWeights {
  const made = () => {
    const convolution = unpack('convolution') as Tensor
    const decay = unpack<Tensor1D>('decay') as Tensor1D
    return {
      convolution: reshape(convolution, [convolution.shape[0] as number, -1]),
      decayRate: decayRateOf(decay),
      decayBias: unpack<Tensor1D>('rateBias') as Tensor1D,
      readNorm: { kind: 'rms', epsilon, weight: unpack<Tensor1D>('readNorm') as Tensor1D },
    }
  }
  return tidy(made as never) as unknown as DeltaWeights
}

/** A norm from its stored weights, which become its own; its result is multiplied by `scale`. */
export function normOf({ offset, ...kind }: NormKind, weight: Tensor1D, bias: Tensor1D | undefined, scale = 1): NormWeights {
  const own = (stored: Tensor1D, shift: number): Tensor1D => {
    if (shift === 0 && scale === 1) return stored
    const changed = tidy(() => mul<Tensor1D>(add(stored, shift), scale))
    stored.dispose()
    return changed
  }
  return { ...kind, weight: own(weight, offset ?? 0), ...(bias ? { bias: own(bias, 0) } : {}) }
}

/** Disposes of every tensor of a part. */
export function disposePart(weights: PartWeights<Matrix>): void {
  dispose(weights as unknown as TensorContainer)
}
