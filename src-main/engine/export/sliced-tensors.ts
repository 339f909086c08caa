import type { Tensor } from '@tensorflow/tfjs-core'
import type { SlicePlan } from '#contract/pruning/plan.ts'
import {
  type BlockTensors,
  denseMlp,
  mixerOwn,
  mixerProjections,
  type NormTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import type { TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import { type FloatDtype, fromFloat32 } from '#engine/checkpoint/dtypes.ts'
import type { ShapedTensorToWrite, TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import type { Model } from '#engine/model/model.ts'
import { storedDtype } from '#engine/model/views/plan-tensors.ts'
import { slicedSpec } from '#engine/model/views/sliced-spec.ts'
import type { ModelView } from '#engine/model/views/view.ts'
import { type AttentionWeights, blockOf, isAttention, type MlpWeights, mlpOfWeights, type Part } from '#engine/model/weights/weights.ts'

/** Rows of one stored tensor, starting at `firstRow`. */
interface Piece {
  readonly firstRow: number
  readonly values: Float32Array
}

type Pieces = Map<string, Piece[]>

/**
 * The tensors of a sliced model, in the checkpoint's dtype: the view's weights under the family's names, and the shortcuts. Unlike with
 * other plans, no weights are copied from the checkpoint unchanged, because every weight is rotated.
 */
export async function slicedTensors(view: ModelView, plan: SlicePlan): Promise<TensorToWrite[]> {
  const { checkpoint, vocabulary, spec } = view.model
  const ids = Int32Array.from({ length: spec.vocabulary }, (_, id) => id)
  const embedding = async (dtype: FloatDtype) => {
    const rows = await vocabulary.embed(ids)
    const bytes = fromFloat32(rows.dataSync() as Float32Array, dtype)
    rows.dispose()
    return bytes
  }
  const blocks = new BlockWriter(view, plan)
  return slicedShapes(view.model, plan).map(({ block, source, ...tensor }) => {
    if (block !== undefined) return { ...tensor, bytes: () => blocks.bytes(block, tensor) }
    return { ...tensor, bytes: () => (source === undefined ? embedding(tensor.dtype) : checkpoint.read(source)) }
  })
}

/** A tensor of a sliced model: one of a block, a copy from the checkpoint, or the embedding. */
interface SlicedShape extends ShapedTensorToWrite {
  readonly dtype: FloatDtype
  readonly block?: number
  readonly source?: string
}

/** Names, types and shapes of the tensors of a sliced model. */
export function slicedShapes({ checkpoint, spec: dense }: Pick<Model, 'checkpoint' | 'spec'>, plan: SlicePlan): SlicedShape[] {
  const spec = slicedSpec(dense, plan)
  const plain = (name: string, source: string): SlicedShape => {
    const { dtype, shape } = checkpoint.tensors.get(source) as TensorInfo
    return { name, dtype: dtype as FloatDtype, shape, source }
  }
  const norms = [spec.finalNorm.weight, ...(spec.finalNorm.bias ? [spec.finalNorm.bias] : [])]
  return [
    { name: spec.embedding, dtype: storedDtype(checkpoint, spec.embedding), shape: [spec.vocabulary, plan.width] },
    ...[...norms, ...(spec.head.bias ? [spec.head.bias] : [])].map((name) => plain(name, name)),
    plain(spec.head.weight, dense.head.weight),
    ...[...spec.blocks.keys()].flatMap((block) => {
      const dtype = storedDtype(checkpoint, denseMlp(dense.block(block)).up.weight)
      return [...storedShapes(spec.block(block))].map(([name, shape]) => ({ name, dtype, shape, block }))
    }),
  ]
}

/** Computes one block at a time, when the first of its tensors is written. */
class BlockWriter {
  readonly #view: ModelView
  readonly #plan: SlicePlan
  #current: { readonly block: number; readonly pieces: Promise<Pieces> } | undefined

  constructor(view: ModelView, plan: SlicePlan) {
    this.#view = view
    this.#plan = plan
  }

  async bytes(block: number, { name, dtype }: Pick<SlicedShape, 'name' | 'dtype'>): Promise<Uint8Array> {
    const pieces = (await this.#piecesOf(block)).get(name) ?? []
    const inOrder = pieces.toSorted((a, b) => a.firstRow - b.firstRow)
    return new Uint8Array(Buffer.concat(inOrder.map(({ values }) => fromFloat32(values, dtype))))
  }

  #piecesOf(block: number): Promise<Pieces> {
    if (this.#current?.block !== block) this.#current = { block, pieces: this.#compute(block) }
    return this.#current.pieces
  }

  async #compute(block: number): Promise<Pieces> {
    const pieces: Pieces = new Map()
    for (const part of this.#view.parts.filter((own) => blockOf(own) === block)) await addPart(pieces, this.#view, this.#plan, part)
    return pieces
  }
}

/** Shapes of a block's stored tensors by name. Projections that share a tensor are stacked. */
function storedShapes(tensors: BlockTensors): Map<string, number[]> {
  const shapes = new Map<string, number[]>()
  const { delta, ...others } = tensors
  for (const entry of [...Object.values(others), ...Object.values(delta ?? {})] as (Projection | NormTensors | ShapedTensor)[]) {
    if (!('rows' in entry)) {
      shapes.set(entry.weight, 'shape' in entry ? [...entry.shape] : [entry.size ?? 0])
      continue
    }
    const rows = Math.max(entry.firstRow + entry.rows, shapes.get(entry.weight)?.[0] ?? 0)
    shapes.set(entry.weight, [rows, entry.columns])
    if (entry.bias) shapes.set(entry.bias, [rows])
  }
  return shapes
}

async function addPart(pieces: Pieces, view: ModelView, plan: SlicePlan, part: Part): Promise<void> {
  const tensors = slicedSpec(view.model.spec, plan).block(blockOf(part))
  const weights = await view.lease(part)
  const norm = isAttention(part) ? tensors.attentionNorm : (tensors.mlpNorm ?? tensors.attentionNorm)
  if (norm) addNorm(pieces, norm, plan.width, view.model.spec.norm.offset)
  for (const own of isAttention(part) ? [tensors.queryNorm, tensors.keyNorm, ...mixerOwn(tensors)] : []) {
    if (own) pieces.set(own.weight, [{ firstRow: 0, values: await view.model.checkpoint.readFloat32(own.weight) }])
  }
  if (weights.attention) addAttention(pieces, tensors, weights.attention, view.spec.scoreScale)
  else addMlp(pieces, tensors, mlpOfWeights(weights))
  view.release(part, weights)
}

function addAttention(pieces: Pieces, tensors: BlockTensors, weights: AttentionWeights, scoreScale: number): void {
  const joined = read(weights.queryKeyValue)
  const biases = weights.queryKeyValueBias && read(weights.queryKeyValueBias)
  let row = 0
  const scaled = !weights.queryNorm && !weights.delta
  for (const projection of mixerProjections(tensors)) {
    // A view's queries were scaled when they were loaded, so the scale is divided out again.
    const factor = projection === tensors.query && scaled ? 1 / scoreScale : 1
    const rows = joined.subarray(row * projection.columns, (row + projection.rows) * projection.columns).map((value) => value * factor)
    const bias = biases?.subarray(row, row + projection.rows).map((value) => value * factor)
    addProjection(pieces, projection, rows, bias)
    row += projection.rows
  }
  addProjection(pieces, tensors.output, read(weights.output), weights.outputBias && read(weights.outputBias))
  addShortcut(pieces, tensors.attentionShortcut, weights.shortcut)
}

function addMlp(pieces: Pieces, tensors: BlockTensors, weights: MlpWeights): void {
  const { gate, up, down } = denseMlp(tensors)
  if (gate && weights.gate) addProjection(pieces, gate, read(weights.gate), weights.gateBias && read(weights.gateBias))
  addProjection(pieces, up, read(weights.up), weights.upBias && read(weights.upBias))
  addProjection(pieces, down, read(weights.down), weights.downBias && read(weights.downBias))
  addShortcut(pieces, tensors.mlpShortcut, weights.shortcut)
}

function addShortcut(pieces: Pieces, tensor: Projection | undefined, weights: Tensor | undefined): void {
  if (tensor && weights) addProjection(pieces, tensor, read(weights), undefined)
}

function addProjection(
  pieces: Pieces,
  { weight, bias, firstRow }: Projection,
  values: Float32Array,
  biasValues: Float32Array | undefined,
): void {
  const add = (name: string, piece: Piece) => pieces.set(name, [...(pieces.get(name) ?? []), piece])
  add(weight, { firstRow, values })
  if (bias && biasValues) add(bias, { firstRow, values: biasValues })
}

function addNorm(pieces: Pieces, { weight }: NormTensors, width: number, offset = 0): void {
  pieces.set(weight, [{ firstRow: 0, values: new Float32Array(width).fill(1 - offset) }])
}

const read = (tensor: Tensor): Float32Array => tensor.dataSync() as Float32Array
