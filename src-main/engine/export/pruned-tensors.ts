import { at } from '#contract/at.ts'
import type { BlockPlan, MlpPlan, Replaceable } from '#contract/pruning/plan.ts'
import {
  type BlockTensors,
  type DecoderSpec,
  denseMlp,
  mixerKeys,
  mixerOwn,
  mixerOwnKeys,
  mixerProjections,
  type NormTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { finalNormName, partReplaced, replacedProjection, trainedName } from '#engine/model/views/plan-tensors.ts'
import { attentionOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import type { Cut } from './cut-matrix.ts'
import { addMixture } from './mixture-tensors.ts'
import { type PackedBlock, sourceOf } from './packing.ts'
import { type AddPiece, type Piece, type Planned, type PrunedTensor, toTensor } from './pieces.ts'

/** How the tensors of a pruned model are written. */
interface TensorStyle {
  /** Whether removed parts are left out, or become zeros so that every block has the same tensors. */
  readonly removed: 'absent' | 'zeroed'
  /** The width to which the MLP at a position is padded with zero neurons. Default: no padding. */
  readonly width?: (position: number) => number
  /** The number of experts in a mixture that is written as zeros. */
  readonly experts?: number
  /** The blocks of the written model, in order. */
  readonly blocks: readonly PackedBlock[]
  /** The tensor names of the written model, and the shapes of tensors whose source was removed. Default: those of the model's family. */
  readonly names?: TensorNames
}

/** Names of a model's tensors. A projection without rows has no tensor. */
export type TensorNames = Pick<DecoderSpec, 'embedding' | 'finalNorm' | 'head' | 'block'>

/**
 * The tensors of a pruned model, in the checkpoint's dtype. Each is computed when it is written. Kept rows and columns are copied byte by
 * byte, so weights stay bit-equal.
 */
export function prunedTensors(planned: Planned, style: TensorStyle): PrunedTensor[] {
  const { checkpoint, spec } = planned.model
  const pieces = new Map<string, Piece[]>()
  const add: AddPiece = (name, piece) => pieces.set(name, [...(pieces.get(name) ?? []), piece])
  const names = style.names ?? spec
  addWhole(checkpoint, spec.embedding, names.embedding, add)
  style.blocks.forEach((packed, position) => {
    const to = names.block(sourceOf(packed), position)
    addAttention(planned, packed, to, style, add)
    addMlp(planned, packed, { position, to }, style, add)
  })
  for (const [i, norm] of normNames(spec.finalNorm).entries()) {
    const replaced = planned.plan.finalNorm && finalNormName(i === 0 ? 'weight' : 'bias')
    addWhole(checkpoint, norm, normNames(names.finalNorm)[i] ?? norm, add, replaced)
  }
  if (spec.head.weight !== spec.embedding) addWhole(checkpoint, spec.head.weight, names.head.weight, add)
  if (spec.head.bias) addWhole(checkpoint, spec.head.bias, names.head.bias ?? spec.head.bias, add)
  const common = checkpoint.tensors.get(spec.embedding)?.dtype ?? 'F32'
  return [...pieces].map(([name, parts]) => toTensor({ checkpoint, tensors: planned.tensors }, name, parts, common))
}

function addWhole(checkpoint: Checkpoint, source: string, target: string, add: AddPiece, replaced?: string): void {
  const [rows = 0, columns] = checkpoint.tensors.get(source)?.shape ?? []
  add(target, { source, firstRow: 0, rows, columns, cut: {}, replaced })
}

/**
 * Returns the plan's tensor that replaces one of a part's tensors, by its key in `partNames`. Returns undefined if the plan does not
 * replace the whole part.
 */
type TrainedTensors = (key: string) => { readonly name: string; readonly shape: readonly number[] } | undefined

function trainedTensors({ model, plan, tensors }: Planned, part: Part | undefined): TrainedTensors {
  if (part === undefined || !partReplaced(plan, part)) return () => undefined
  return (key) => {
    const name = trainedName(model.spec, part, key)
    return { name, shape: tensors?.tensors.get(name)?.shape ?? [] }
  }
}

function addAttention(planned: Planned, packed: PackedBlock, to: BlockTensors, { removed }: TensorStyle, add: AddPiece): void {
  const { spec } = planned.model
  const from = packed.attention === undefined ? undefined : spec.block(packed.attention)
  // With a parallel residual, the MLP uses the attention's norm.
  const sharedNorm = spec.parallelResidual && packed.mlp !== undefined ? spec.block(packed.mlp) : undefined
  const present = from !== undefined || (removed === 'zeroed' && to.query.rows > 0)
  const partOf = (block: number | undefined, of: (block: number) => Part) => (block === undefined ? undefined : of(block))
  const trained = trainedTensors(planned, partOf(packed.attention, attentionOf))
  const trainedNorm = from ? trained : trainedTensors(planned, sharedNorm && partOf(packed.mlp, mlpOf))
  const norm = (key: 'attentionNorm' | 'queryNorm' | 'keyNorm' | 'attentionOutputNorm', trainedKey: string) =>
    addNorm((key === 'attentionNorm' ? (from ?? sharedNorm) : from)?.[key], to[key], spec.hidden, add, (kind) =>
      (key === 'attentionNorm' ? trainedNorm : trained)(trainedKey + kind),
    )
  if (present || sharedNorm) norm('attentionNorm', 'norm')
  if (!present) return
  norm('queryNorm', 'queryNorm')
  norm('keyNorm', 'keyNorm')
  norm('attentionOutputNorm', 'outputNorm')
  const [own, ownShaped] = [from && mixerProjections(from), from && mixerOwn(from)]
  for (const [i, target] of mixerProjections(to).entries()) addProjection(own?.[i], target, {}, add, mixerKeys[i], trained)
  for (const [i, target] of mixerOwn(to).entries()) addShaped(ownShaped?.[i], target, add, trained(at(mixerOwnKeys, i))?.name)
  if (to.sinks) addShaped(from?.sinks, to.sinks, add, trained('sinks')?.name)
  if (!addReplaced(planned, packed.attention, 'output', to.output, {}, add))
    addProjection(from?.output, to.output, {}, add, 'output', trained)
}

interface Place {
  readonly position: number
  readonly to: BlockTensors
}

function addMlp(planned: Planned, packed: PackedBlock, { position, to }: Place, style: TensorStyle, add: AddPiece): void {
  const { spec } = planned.model
  const from = packed.mlp === undefined ? undefined : spec.block(packed.mlp)
  if (!from && style.removed === 'absent') return
  const own = packed.mlp === undefined ? 'removed' : (planned.plan.blocks[packed.mlp] as BlockPlan).mlp
  const { rows, columns } = mlpCuts(own, style.width?.(position))
  const trained = trainedTensors(planned, packed.mlp === undefined ? undefined : mlpOf(packed.mlp))
  addNorm(from?.mlpNorm, to.mlpNorm, spec.hidden, add, (kind) => trained(`norm${kind}`))
  addNorm(from?.mlpOutputNorm, to.mlpOutputNorm, spec.hidden, add, (kind) => trained(`outputNorm${kind}`))
  if (to.mixture) {
    addMixture(planned, packed.mlp, to.mixture, { width: style.width?.(position), experts: style.experts }, add)
    return
  }
  const target = denseMlp(to)
  if (target.gate) addProjection(from?.gate, target.gate, rows, add, 'gate', trained)
  addProjection(from?.up, target.up, rows, add, 'up', trained)
  if (!addReplaced(planned, packed.mlp, 'down', target.down, columns, add))
    addProjection(from?.down, target.down, columns, add, 'down', trained)
}

/**
 * Adds a projection that the plan replaces. Its columns are already cut, so it only needs padding with zeros. Returns false if the plan
 * does not replace it.
 */
function addReplaced(
  { model, plan, tensors }: Planned,
  block: number | undefined,
  key: Replaceable,
  target: Projection,
  { paddedColumns }: Cut,
  add: AddPiece,
): boolean {
  const found = block === undefined ? undefined : replacedProjection(model.spec, plan, tensors, block, key)
  if (!found) return false
  const { projection, weight, bias } = found
  const piece = { firstRow: 0, rows: projection.rows }
  add(target.weight, {
    ...piece,
    source: projection.weight,
    replaced: weight,
    columns: tensors?.tensors.get(weight)?.shape[1],
    cut: { paddedColumns },
  })
  if (target.bias) add(target.bias, { ...piece, source: projection.bias, replaced: bias, columns: undefined, cut: {} })
  return true
}

function addNorm(
  source: NormTensors | undefined,
  target: NormTensors | undefined,
  hidden: number,
  add: AddPiece,
  trained: (kind: '' | 'Bias') => ReturnType<TrainedTensors>,
): void {
  if (!target) return
  const names = source && normNames(source)
  const rows = source?.size ?? target.size ?? hidden
  for (const [i, name] of normNames(target).entries())
    add(name, { source: names?.[i], firstRow: 0, rows, columns: undefined, cut: {}, replaced: trained(i === 0 ? '' : 'Bias')?.name })
}

function addShaped(source: ShapedTensor | undefined, target: ShapedTensor, add: AddPiece, replaced: string | undefined): void {
  const [rows = 0, ...rest] = target.shape
  const columns = rest.length === 0 ? undefined : rest.reduce((a, b) => a * b, 1)
  add(target.weight, { source: source?.weight, firstRow: 0, rows, columns, cut: {}, shape: target.shape, replaced })
}

function addProjection(
  source: Projection | undefined,
  target: Projection,
  cut: Cut,
  add: AddPiece,
  key: string | undefined,
  trained: TrainedTensors,
): void {
  const own = key === undefined ? undefined : trained(key)
  if (own) {
    addTrained(source, target, cut, add, own, trained(`${key}Bias`))
    return
  }
  const { firstRow, rows, columns } = source ?? target
  add(target.weight, { source: source?.weight, firstRow, rows, columns, cut })
  const { rowsKept, paddedRows, rows: live } = cut
  if (target.bias) add(target.bias, { source: source?.bias, firstRow, rows, columns: undefined, cut: { rowsKept, paddedRows, rows: live } })
}

/** Adds a projection from the plan's tensors. It is already cut, so it only needs padding with zeros. */
function addTrained(
  source: Projection | undefined,
  target: Projection,
  { paddedRows, paddedColumns }: Cut,
  add: AddPiece,
  { name, shape }: NonNullable<ReturnType<TrainedTensors>>,
  bias: ReturnType<TrainedTensors>,
): void {
  const [rows = 0, columns] = shape
  add(target.weight, { source: source?.weight, firstRow: 0, rows, columns, cut: { paddedRows, paddedColumns }, replaced: name })
  if (target.bias)
    add(target.bias, { source: source?.bias, firstRow: 0, rows, columns: undefined, cut: { paddedRows }, replaced: bias?.name })
}

/** Cuts of the gate and up projections (by rows) and of the down projection (by columns). */
function mlpCuts(plan: MlpPlan, width: number | undefined): { rows: Cut; columns: Cut } {
  const { kept, inputs, outputs } = plan === 'removed' ? { kept: [] } : { inputs: undefined, outputs: undefined, ...plan }
  const neurons = kept === 'all' ? undefined : kept
  return {
    rows: { rowsKept: neurons, paddedRows: width, columns: inputs },
    columns: { columnsKept: neurons, paddedColumns: width, rows: outputs },
  }
}

const normNames = (norm: NormTensors): string[] => [norm.weight, ...(norm.bias ? [norm.bias] : [])]
