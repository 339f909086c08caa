import { at } from '#contract/at.ts'
import type { BlockPlan, MlpPlan, Replaceable } from '#contract/pruning/plan.ts'
import {
  type BlockLayout,
  type BlockTensors,
  constantAt,
  type DecoderSpec,
  denseMlp,
  isConstant,
  type MixtureTensors,
  type MlpTensors,
  mixerKeys,
  mixerOwn,
  mixerOwnKeys,
  mixerProjections,
  type NormTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { type KeptExpert, keptExperts } from '#engine/model/views/kept-experts.ts'
import {
  constantsName,
  finalNormName,
  partReplaced,
  replacedExperts,
  replacedProjection,
  trainedName,
} from '#engine/model/views/plan-tensors.ts'
import { attentionOf, mlpOf, type Part } from '#engine/model/weights/weights.ts'
import { type AddPiece, type Cut, type Piece, type Planned, type PrunedTensor, toTensor } from './pieces.ts'

/**
 * One block of a written model. `attention` and `mlp` are the blocks of the dense model that these come from; undefined if the part is
 * missing.
 */
export interface PackedBlock {
  readonly attention: number | undefined
  readonly mlp: number | undefined
  /** The index of a block that keeps its position although both of its parts were removed. */
  readonly place?: number
}

/**
 * The blocks that a written model needs for the parts in `left`. Parts keep their order, and an attention submodule that lost its MLP
 * shares a block with the next MLP that lost its attention. The result is exact if submodules run one after another. With a parallel
 * residual, both submodules of a block read the same stream, so only completely removed blocks are left out.
 */
export function packBlocks(spec: DecoderSpec, left: readonly BlockLayout[]): PackedBlock[] {
  const packed: { attention: number | undefined; mlp: number | undefined }[] = []
  for (const [index, { attention, width }] of left.entries()) {
    const mlp = width > 0 ? index : undefined
    const open = packed.at(-1)
    if (attention) packed.push({ attention: index, mlp })
    else if (mlp !== undefined && open && open.mlp === undefined && !spec.parallelResidual) open.mlp = mlp
    else if (mlp !== undefined) packed.push({ attention: undefined, mlp })
  }
  return packed
}

/** Positions of written blocks whose attention or MLP is missing, so that it is written as zeros. */
export function missingParts(packed: readonly PackedBlock[]): { attention: number[]; mlp: number[] } {
  const positions = [...packed.keys()]
  return {
    attention: positions.filter((position) => packed[position]?.attention === undefined),
    mlp: positions.filter((position) => packed[position]?.mlp === undefined),
  }
}

/**
 * The block of the dense model whose entries in per-block config lists describe a written block: that of its attention, else that of its
 * MLP.
 */
export function sourceOf({ attention, mlp, place }: PackedBlock): number {
  return attention ?? mlp ?? place ?? 0
}

/** `block 3`, or `blocks 3, 4`. */
export function blocksText(positions: readonly number[]): string {
  return `block${positions.length === 1 ? '' : 's'} ${positions.join(', ')}`
}

/** Says that removed parts of these blocks are zeros in the file. */
export const zerosText = (part: 'attention' | 'MLP', positions: readonly number[]): string =>
  `The removed ${part} (${blocksText(positions)}) is stored as zeros, which changes no answer but takes memory and time.`

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
  const rows = planned.plan.vocabulary?.kept
  addWhole(checkpoint, spec.embedding, names.embedding, add, { rows })
  style.blocks.forEach((packed, position) => {
    const to = names.block(sourceOf(packed), position)
    addAttention(planned, packed, to, style, add)
    addMlp(planned, packed, { position, to }, style, add)
  })
  for (const [i, norm] of normNames(spec.finalNorm).entries()) {
    const replaced = planned.plan.finalNorm && finalNormName(i === 0 ? 'weight' : 'bias')
    addWhole(checkpoint, norm, normNames(names.finalNorm)[i] ?? norm, add, { replaced })
  }
  if (spec.head.weight !== spec.embedding) addWhole(checkpoint, spec.head.weight, names.head.weight, add, { rows })
  if (spec.head.bias) addWhole(checkpoint, spec.head.bias, names.head.bias ?? spec.head.bias, add, { rows })
  const common = checkpoint.tensors.get(spec.embedding)?.dtype ?? 'F32'
  return [...pieces].map(([name, parts]) => toTensor({ checkpoint, tensors: planned.tensors }, name, parts, common))
}

interface WholeTensor {
  /** The rows to keep of a tensor with a row for each token. */
  readonly rows?: readonly number[] | undefined
  readonly replaced?: string | undefined
}

function addWhole(checkpoint: Checkpoint, source: string, target: string, add: AddPiece, { rows: rowsKept, replaced }: WholeTensor): void {
  const [rows = 0, columns] = checkpoint.tensors.get(source)?.shape ?? []
  add(target, { source, firstRow: 0, rows, columns, cut: { rowsKept }, replaced })
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

interface MixtureSizes {
  /** Width to which each expert is padded. */
  readonly width: number | undefined
  /** The number of experts in a mixture that is written as zeros. */
  readonly experts: number | undefined
}

/** Adds the mixture of a pruned block: kept experts are renumbered in order, and the router has only their rows. */
function addMixture(
  { model, plan, tensors }: Planned,
  block: number | undefined,
  to: MixtureTensors,
  sizes: MixtureSizes,
  add: AddPiece,
): void {
  const from = block === undefined ? undefined : model.spec.block(block).mixture
  const mlp = block === undefined ? undefined : plan.blocks[block]?.mlp
  const kept = from && mlp && mlp !== 'removed' ? keptExperts(mlp, from.experts.length) : undefined
  const count = kept?.length ?? sizes.experts ?? to.experts.length
  const numbers = kept?.map(({ number }) => number)
  const rows = { rowsKept: numbers, ...(numbers ? {} : { paddedRows: count }) }
  addWeight(from?.router, to.router, rows, add)
  if (to.correction) addCorrection(from, to.correction, rows, add)
  const downs = new Map(
    block === undefined ? [] : replacedExperts(model.spec, plan, tensors, block).map(({ place, name }) => [place, name]),
  )
  const living = kept?.filter(({ number, constant }) => !constant && !isConstant(from?.experts[number] as MlpTensors)).length ?? count
  for (let place = 0; place < count; place++) {
    const target = to.experts[place] as MlpTensors
    const one = kept?.[place]
    const source = one && from?.experts[one.number]
    if (source && (one.constant || isConstant(source))) {
      const first = kept?.filter(({ constant }) => constant).indexOf(one) ?? -1
      const replaced = one.constant ? { replaced: constantsName(block as number), replacedRows: { first, count: 1 } } : {}
      const rows = model.spec.hidden
      const { weight } = isConstant(source) ? source.constant : source.down
      add(constantAt(to, place, rows).constant.weight, { source: weight, firstRow: 0, rows, columns: undefined, cut: {}, ...replaced })
    } else
      addExpert(
        source,
        target,
        { one, living, width: sizes.width, scale: mlp === 'removed' ? undefined : mlp?.expertScale, down: downs.get(place) },
        add,
      )
  }
  addShared(from, to, add)
}

function addCorrection(from: MixtureTensors | undefined, { weight }: ShapedTensor, cut: Cut, add: AddPiece): void {
  const source = from?.correction?.weight
  add(weight, { source, firstRow: 0, rows: from?.experts.length ?? 0, columns: undefined, cut })
}

function addShared(from: MixtureTensors | undefined, { shared, sharedGate }: MixtureTensors, add: AddPiece): void {
  if (shared) {
    const { rows } = shared.up
    addExpert(from?.shared, shared, { one: undefined, living: 1, width: rows === from?.shared?.up.rows ? undefined : rows }, add)
  }
  if (sharedGate) addWeight(from?.sharedGate, sharedGate, {}, add)
}

interface ExpertCut {
  readonly one: KeptExpert | undefined
  readonly living: number
  readonly width: number | undefined
  /** Factor on the down projection. */
  readonly scale?: number | undefined
  /** The plan's tensor that replaces the down projection. */
  readonly down?: string | undefined
}

function addExpert(
  source: MlpTensors | undefined,
  target: MlpTensors,
  { one, living, width, scale, down }: ExpertCut,
  add: AddPiece,
): void {
  const neurons = one === undefined || one.kept === 'all' ? undefined : one.kept
  const own = width ?? neurons?.length ?? target.up.rows
  const inner = { rowsKept: neurons, paddedRows: width }
  const shapeOf = (rows: number, columns: number) => (target.up.shape ? [living, rows, columns] : undefined)
  // Gates and ups may share a tensor.
  const each = target.up.shape ? at(target.up.shape, 1) / target.up.rows : 1
  if (target.gate) addWeight(source?.gate, target.gate, inner, add, shapeOf(each * own, target.up.columns))
  addWeight(source?.up, target.up, inner, add, shapeOf(each * own, target.up.columns))
  const shape = shapeOf(target.down.rows, own)
  // A tensor of the plan is already cut, so it only needs padding with zeros.
  const columns = neurons?.length ?? source?.down.columns
  const addDown: AddPiece = (name, piece) =>
    add(
      name,
      down && name === target.down.weight ? { ...piece, firstRow: 0, columns, cut: { paddedColumns: width }, replaced: down } : piece,
    )
  addWeight(source?.down, target.down, { columnsKept: neurons, paddedColumns: width }, addDown, shape, scale)
}

function addWeight(
  source: Projection | undefined,
  target: Projection,
  cut: Cut,
  add: AddPiece,
  shape?: readonly number[],
  scale?: number,
): void {
  const { firstRow, rows, columns } = source ?? target
  add(target.weight, { source: source?.weight, firstRow, rows, columns, cut, scale, ...(shape ? { shape } : {}) })
  const { rowsKept, paddedRows } = cut
  if (target.bias)
    add(target.bias, {
      source: source?.bias,
      firstRow,
      rows,
      columns: undefined,
      cut: { rowsKept, paddedRows },
      scale,
      // If experts share a tensor, their biases do too.
      ...(target.shape ? { shape: [at(target.shape, 0), at(shape ?? target.shape, 1)] } : {}),
    })
}
