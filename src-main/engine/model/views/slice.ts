import {
  add,
  concat,
  matMul,
  mean,
  mul,
  reshape,
  split,
  sub,
  Tensor,
  type Tensor1D,
  type Tensor2D,
  tensor2d,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import { EspalierError } from '#contract/errors.ts'
import type { BlockPlan, MlpPlan, Plan, SlicePlan } from '#contract/pruning/plan.ts'
import {
  type BlockLayout,
  type BlockTensors,
  type DecoderSpec,
  type DeltaTensors,
  defined,
  denseMlp,
  type NormTensors,
  type Projection,
} from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import type { FloatDtype } from '#engine/checkpoint/dtypes.ts'
import type { Vocabulary } from '#engine/model/parts/head/embedding-and-head.ts'
import { disposePart, roundTo } from '#engine/model/weights/unpack.ts'
import {
  type AttentionWeights,
  attentionOf,
  blockOf,
  isAttention,
  type MlpWeights,
  mlpOf,
  mlpOfWeights,
  type Part,
  type PartWeights,
  presentParts,
} from '#engine/model/weights/weights.ts'
import type { NormWeights } from '#engine/tensor/norm.ts'
import { cloneTensors } from '#engine/tensor/tidied.ts'
import { keptMixture, mixtureLayout } from './kept-experts.ts'
import { type PlanTensors, storedDtype } from './plan-tensors.ts'

/**
 * The name of the plan's rotation before a part. In SliceGPT (arXiv 2401.15024), the stream between submodules is rotated by an orthogonal
 * matrix, and only its first d coordinates are kept. A rotation [D, d] precedes every part, or only each block's attention if the MLP runs
 * in parallel. After the last part, the stream has all D coordinates again.
 */
export const rotationName = (part: Part): string => `rotation.${part}`
/**
 * The name of the rotation of embeddings. It equals the first rotation, with the mean of each row subtracted first if the method does so.
 */
export const embeddingRotationName = 'rotation.embedding'

/** The parts that have a rotation before them, in running order. */
export function rotatedParts(spec: DecoderSpec): Part[] {
  return spec.parallelResidual ? presentParts(spec).filter(isAttention) : presentParts(spec)
}

/** What turns a part of the dense model into one of the sliced model. */
interface PartSlice {
  /** The rotation before the part, [D, d]. */
  readonly input: Tensor2D
  /** The rotation after the part, [D, d]; undefined if its output keeps all D coordinates. */
  readonly output: Tensor2D | undefined
  /** Whether the part also moves the stream into the next basis. A parallel MLP does not, because its attention has already done so. */
  readonly carries: boolean
  readonly epsilon: number
}

/** Computes the weights of a part between two bases. Norm weights move into the projections; the norm still divides by the dense width. */
export function slicePart(weights: PartWeights, spec: DecoderSpec, slice: PartSlice): PartWeights {
  const make = () =>
    weights.attention
      ? { attention: sliceAttention(weights.attention, spec, slice) }
      : { mlp: sliceMlp(mlpOfWeights(weights), spec, slice) }
  return tidy(make as never) as unknown as PartWeights
}

function sliceAttention(weights: AttentionWeights, spec: DecoderSpec, slice: PartSlice): AttentionWeights {
  const read = readThrough(weights.queryKeyValue, weights.queryKeyValueBias, weights.norm, slice)
  const written = writeThrough(weights.output, weights.outputBias, spec, slice)
  return {
    norm: slicedNorm(spec, slice),
    ...cloneTensors(defined({ queryNorm: weights.queryNorm, keyNorm: weights.keyNorm, delta: weights.delta })),
    queryKeyValue: read.weight,
    ...(read.bias ? { queryKeyValueBias: read.bias } : {}),
    output: written.weight,
    ...(written.bias ? { outputBias: written.bias } : {}),
    ...shortcutOf(slice),
  }
}

function sliceMlp(weights: MlpWeights, spec: DecoderSpec, slice: PartSlice): MlpWeights {
  const up = readThrough(weights.up, weights.upBias, weights.norm, slice)
  const gate = weights.gate && readThrough(weights.gate, weights.gateBias, weights.norm, slice)
  const down = writeThrough(weights.down, weights.downBias, spec, slice)
  return {
    norm: slicedNorm(spec, slice),
    up: up.weight,
    ...(up.bias ? { upBias: up.bias } : {}),
    ...(gate ? { gate: gate.weight, ...(gate.bias ? { gateBias: gate.bias } : {}) } : {}),
    down: down.weight,
    ...(down.bias ? { downBias: down.bias } : {}),
    ...shortcutOf(slice),
  }
}

const slicedNorm = (spec: DecoderSpec, { epsilon }: PartSlice): NormWeights => ({ kind: 'rms', epsilon, divisor: spec.hidden })

interface Projected {
  readonly weight: Tensor2D
  readonly bias: Tensor1D | undefined
}

const toColumn = (x: Tensor1D): Tensor2D => reshape(x, [-1, 1])
const toVector = (x: Tensor2D): Tensor1D => reshape(x, [-1])

/**
 * Turns a projection [R, D] after a norm into a projection [R, d] after a norm without weights. The norm's weight and bias move into it.
 */
function readThrough(weight: Tensor2D, bias: Tensor1D | undefined, norm: NormWeights | undefined, { input }: PartSlice): Projected {
  const fused = norm?.weight ? mul<Tensor2D>(weight, norm.weight) : weight
  const shift = norm?.bias && toVector(matMul<Tensor2D>(weight, toColumn(norm.bias)))
  const total = shift && bias ? add<Tensor1D>(bias, shift) : (shift ?? bias?.clone())
  return { weight: matMul(fused, input), bias: total }
}

/**
 * Turns a projection [D, R] onto the stream into a projection [d, R] onto the rotated stream. If the model has layer norms, which subtract
 * means, the projection subtracts them instead.
 */
function writeThrough(weight: Tensor2D, bias: Tensor1D | undefined, spec: DecoderSpec, { output }: PartSlice): Projected {
  const centre = spec.norm.kind === 'layer'
  const full = centre ? sub<Tensor2D>(weight, mean(weight, 0, true)) : weight
  const fullBias = bias && (centre ? sub<Tensor1D>(bias, mean(bias)) : bias)
  if (!output) return { weight: full.clone(), bias: fullBias?.clone() }
  return {
    weight: matMul(output, full, true, false),
    bias: fullBias && toVector(matMul<Tensor2D>(output, toColumn(fullBias), true, false)),
  }
}

/** The matrix that moves the stream from one basis into the next: [d, d], or [d, D] for the last part. */
function shortcutOf({ input, output, carries }: PartSlice): { shortcut?: Tensor2D } {
  if (!carries) return {}
  return { shortcut: output ? matMul<Tensor2D>(input, output, true, false) : transpose<Tensor2D>(input) }
}

/** Throws if a rotation that the plan needs is missing or has the wrong shape. */
export function checkRotations(spec: DecoderSpec, { width }: SlicePlan, tensors: PlanTensors | undefined): void {
  for (const name of [embeddingRotationName, ...rotatedParts(spec).map(rotationName)]) {
    const shape = tensors?.tensors.get(name)?.shape.join()
    if (shape === `${spec.hidden},${width}`) continue
    throw new EspalierError(
      'invalid',
      `The plan's tensor "${name}" ${shape ? `has shape [${shape}] instead of [${spec.hidden},${width}]` : 'is missing'}: the stream cannot be narrowed without it. Prune again.`,
    )
  }
}

/** The parts of a model that slicing needs. */
interface Source {
  readonly spec: DecoderSpec
  readonly checkpoint: Checkpoint
  readonly vocabulary: Vocabulary
}

/** Returns a function that computes the weights of parts between two bases, rounded to the checkpoint's dtype. */
export function sliceParts({ spec, checkpoint }: Source, plan: SlicePlan, tensors: PlanTensors) {
  const order = rotatedParts(spec)
  const epsilon = plan.epsilon ?? spec.norm.epsilon
  return async (part: Part, weights: PartWeights): Promise<PartWeights> => {
    const index = order.findLastIndex((rotated) => rotated <= part)
    const next = order[index + 1]
    const output = next === undefined ? undefined : await readRotation(tensors, rotationName(next))
    const input = await readRotation(tensors, rotationName(order[index] ?? part))
    const exact = slicePart(weights, spec, { input, output, carries: order[index] === part, epsilon })
    input.dispose()
    output?.dispose()
    return roundPart(exact, storedDtype(checkpoint, denseMlp(spec.block(blockOf(part))).up.weight), spec)
  }
}

/** Makes the vocabulary of a sliced model: embeddings are rotated, and the final norm becomes an RMSNorm with the plan's epsilon. */
export function sliceVocabulary({ spec, vocabulary, checkpoint }: Source, plan: SlicePlan, tensors: PlanTensors): Vocabulary {
  const finalNorm: NormWeights = { ...vocabulary.finalNorm, kind: 'rms', epsilon: plan.epsilon ?? spec.norm.epsilon }
  const dtype = storedDtype(checkpoint, spec.embedding)
  return vocabulary.rotated({ read: () => readRotation(tensors, embeddingRotationName), dtype }, finalNorm)
}

async function readRotation(tensors: PlanTensors, name: string): Promise<Tensor2D> {
  return tensor2d(await tensors.readFloat32(name), tensors.tensors.get(name)?.shape as [number, number])
}

/**
 * Rounds the weights of a part to a dtype. Queries are scaled when they are read, unless their norm is, but stored without the scale. So
 * they are rounded without it.
 */
function roundPart(exact: PartWeights, dtype: FloatDtype, { keyValueHeads, headSize, scoreScale }: DecoderSpec): PartWeights {
  if (dtype === 'F32') return exact
  const scale = exact.attention?.queryNorm ? 1 : scoreScale
  const round = (key: string, value: unknown): unknown => {
    if (!(value instanceof Tensor)) return cloneTensors(value)
    if (!key.startsWith('queryKeyValue')) return roundTo(value, dtype)
    const queries = (value.shape[0] as number) - 2 * keyValueHeads * headSize
    const [query, rest] = split(value, [queries, 2 * keyValueHeads * headSize], 0) as [Tensor, Tensor]
    return concat([mul(roundTo(mul(query, 1 / scale), dtype), scale), roundTo(rest, dtype)], 0)
  }
  const parts = Object.entries(exact.attention ?? mlpOfWeights(exact))
  const rounded = tidy(() => Object.fromEntries(parts.map(([key, value]) => [key, round(key, value)])) as never)
  disposePart(exact)
  return (exact.attention ? { attention: rounded } : { mlp: rounded }) as PartWeights
}

/**
 * The spec of the model that a plan leaves. Hidden channels that an MLP does not use are left out of its sizes, although files hold zeros
 * there.
 */
export function specWithPlan(spec: DecoderSpec, plan: Plan): DecoderSpec {
  const blocks = spec.blocks.map((layout, index) => {
    const { attention, mlp } = plan.blocks[index] ?? untouched
    return layoutAfter(layout, { attention, mlp })
  })
  const block: DecoderSpec['block'] = (index, name) =>
    withMlpPlan(spec.block(index, name), (plan.blocks[index] ?? untouched).mlp, spec.hidden)
  const left = { ...spec, blocks, block, ...(plan.vocabulary ? { vocabulary: plan.vocabulary.kept.length } : {}) }
  return plan.slice ? slicedSpec(left, plan.slice) : left
}

const untouched: BlockPlan = { attention: 'kept', mlp: { kept: 'all' } }

/** The layout that a plan leaves of a block. */
export function layoutAfter(layout: BlockLayout, { attention, mlp }: BlockPlan): BlockLayout {
  const attends = layout.attention && attention === 'kept'
  if (mlp === 'removed') return { ...layout, attention: attends, width: 0 }
  if (layout.experts === undefined) return { attention: attends, width: keptWidth(layout.width, mlp) }
  return { ...mixtureLayout(layout, mlp), attention: attends }
}

const keptWidth = (width: number, { kept }: KeptMlp): number => (kept === 'all' ? width : Math.min(width, kept.length))

type KeptMlp = Exclude<MlpPlan, 'removed'>

/** A block's tensors with its MLP as narrow as a plan makes it. If gate and up share a tensor, up begins where gate ends. */
function withMlpPlan(tensors: BlockTensors, mlp: MlpPlan, hidden: number): BlockTensors {
  if (mlp === 'removed') return tensors
  if (tensors.mixture) return { ...tensors, mixture: keptMixture(tensors.mixture, mlp, hidden) }
  const { gate, up, down } = denseMlp(tensors)
  const width = keptWidth(up.rows, mlp)
  const inner = { rows: width, columns: mlp.inputs?.length ?? up.columns }
  const below = up.firstRow === 0 ? 0 : width
  return {
    ...tensors,
    ...(gate ? { gate: { ...gate, ...inner } } : {}),
    up: { ...up, ...inner, firstRow: below },
    down: { ...down, rows: mlp.outputs?.length ?? down.rows, columns: width },
  }
}

/** The spec of a model whose sliced weights are saved. It has narrower projections, shortcuts, and a head separate from the embedding. */
export function slicedSpec(dense: DecoderSpec, { width, epsilon }: SlicePlan): DecoderSpec {
  // Embeddings are stored as they enter the stream, already scaled and rotated.
  const { embeddingScale: _scaledAlready, ...spec } = dense
  const rotated = rotatedParts(spec)
  const tied = spec.head.weight === spec.embedding
  return {
    ...spec,
    sliceWidth: width,
    norm: { ...spec.norm, kind: 'rms', epsilon: epsilon ?? spec.norm.epsilon, divisor: spec.hidden },
    headNorm: spec.norm,
    head: tied ? { ...spec.head, weight: 'lm_head.weight' } : spec.head,
    block: (index) => slicedBlock(spec.block(index), index, { width, full: spec.hidden, rotated }),
  }
}

interface Widths {
  readonly width: number
  readonly full: number
  readonly rotated: readonly number[]
}

function slicedBlock(tensors: BlockTensors, index: number, { width, full, rotated }: Widths): BlockTensors {
  const { query, key, value, queryNorm, keyNorm, delta, output, attentionNorm, mlpNorm } = tensors
  const { gate, up, down } = denseMlp(tensors)
  const [attention, mlp] = [attentionOf(index), mlpOf(index)]
  const widthAfter = (part: number) => (rotated.some((later) => later > part) ? width : full)
  const prefix = /^(.*?\.\d+\.)/.exec(query.weight)?.[1] ?? `blocks.${index}.`
  const shortcut = (name: string, part: number): Projection => ({
    weight: `${prefix}${name}`,
    firstRow: 0,
    rows: width,
    columns: widthAfter(part),
  })
  return {
    ...(attentionNorm ? { attentionNorm: bareNorm(attentionNorm, width) } : {}),
    query: { ...query, columns: width },
    key: { ...key, columns: width },
    value: { ...value, columns: width },
    ...(queryNorm ? { queryNorm } : {}),
    ...(keyNorm ? { keyNorm } : {}),
    ...(delta ? { delta: narrowDelta(delta, width) } : {}),
    output: { ...output, rows: widthAfter(attention) },
    ...(mlpNorm ? { mlpNorm: bareNorm(mlpNorm, width) } : {}),
    ...(gate ? { gate: { ...gate, columns: width } } : {}),
    up: { ...up, columns: width },
    down: { ...down, rows: widthAfter(mlp) },
    attentionShortcut: shortcut('attention_shortcut', attention),
    ...(rotated.includes(mlp) ? { mlpShortcut: shortcut('mlp_shortcut', mlp) } : {}),
  }
}

const narrowDelta = (delta: DeltaTensors, columns: number): DeltaTensors => ({
  ...delta,
  gate: { ...delta.gate, columns },
  strength: { ...delta.strength, columns },
  rate: { ...delta.rate, columns },
})

/** A norm whose weights moved into the next projections. It is saved as ones, so that the block still has all tensors of its family. */
const bareNorm = ({ weight }: NormTensors, size: number): NormTensors => ({ weight, size, ones: true })
