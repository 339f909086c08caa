import {
  add,
  clipByValue,
  concat,
  gather,
  keep,
  matMul,
  mul,
  type Rank,
  reshape,
  sigmoid,
  slice,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  type Tensor4D,
  tensor1d,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import { type DecoderSpec, type DeltaShape, hasExperts, layoutOf } from '#engine/architectures/spec.ts'
import { activeBackend } from '#engine/backend/active.ts'
import { causalAttention } from '#engine/tensor/attention.ts'
import { attendHeads, splitHeads } from '#engine/tensor/heads.ts'
import { fusedNorm, type NormWeights, normalize, normalizeGroups } from '#engine/tensor/norm.ts'
import { batchedProduct, isHalf, type Matrix, project } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import { halfUnits } from '#engine/tensor/runtime-halves.ts'
import type { Past } from './cache.ts'
import { type DeltaMemory, type DeltaWeights, mixByDelta } from './delta-net.ts'
import { combineExperts, type ExpertActivations, type RoutedExperts, routeTokens } from './experts/mixture.ts'
import { neuronsOf } from './neurons.ts'
import type { AttentionWeights, MixtureWeights, MlpWeights, Part, PartWeights } from './weights/weights.ts'
import { blockOf, isAttention } from './weights/weights.ts'

/** The residual stream at a part's input, [B*T, D]. `source` is the block's input, which a parallel MLP reads. */
export interface Residual {
  readonly x: Tensor2D
  readonly source: Tensor2D
}

/** What all parts share in one call of the decoder. */
export interface CallContext {
  readonly spec: DecoderSpec
  /** The call has B samples of T tokens each. With a past, it has one sample with all rows. */
  readonly batch: number
  readonly tokens: number
  readonly rotary: (block: number) => RotaryTables
  /** The sequences and positions of the rows, for sequences that may have begun in earlier calls. */
  readonly past?: Past
  /** Receives what the part reads and writes. The tensors are valid during the call only. */
  readonly observe?: (seen: PartActivations) => void
  /** Receives sums of an MLP's neurons over each sample. They are valid during the call only. */
  readonly sumNeurons?: (sums: NeuronSums) => void
  /** Which experts of a mixture run, if it is only observed. Default: all. */
  readonly only?: ((expert: number) => boolean) | undefined
}

/** Returns sums of each neuron's magnitudes or squares over the positions of each sample: [B, I], row by row. */
export type NeuronSums = (of: 'magnitudes' | 'squares') => ArrayLike<number>

/** The inputs and outputs of a part's projections, which is all that is needed to fit them. */
export interface PartActivations {
  /** The input of the first projections: the stream after the norm, [B*T, D]. */
  readonly input: Tensor2D
  /**
   * The input of the last projection: mixed heads [B*T, H d], or neurons [B*T, I]. A mixture has one per expert, so reading this throws.
   */
  readonly inner: Tensor2D
  /** For a mixture: the activations of each chosen expert. Experts that are read one by one are shown in one call each, with `more` set. */
  readonly experts?: readonly ExpertActivations[]
  readonly more?: boolean
  /** The part's output, [B*T, D], before its output norm; absent if the part was only computed up to its last projection. */
  readonly output?: Tensor2D
}

/** Runs one part on a residual stream. Returns the stream after the part, which the caller disposes of. */
export function runPart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): Tensor2D {
  return tidy(() => {
    const seen = runUpToLastProjection(part, weights, residual, call)
    const output = outputOf(seen, weights, call.spec)
    call.observe?.(Object.assign(seen, { output }))
    return addTo(residual.x, output, weights.attention ?? weights.mlp ?? weights.mixture, call.spec)
  })
}

/** Computes the stream after a part, given the input of its last projection. The caller disposes of it. */
export function completePart(inner: Tensor2D, weights: PartWeights<Matrix>, { x }: Residual, spec: DecoderSpec): Tensor2D {
  return tidy(() => addTo(x, lastProduct(inner, weights), weights.attention ?? (weights.mlp as MlpWeights<Matrix>), spec))
}

function outputOf(seen: BeforeLastProjection, weights: PartWeights<Matrix>, spec: DecoderSpec): Tensor2D {
  return seen.routed ? combineExperts(seen.input, seen.routed, spec) : lastProduct(seen.inner, weights)
}

function lastProduct(inner: Tensor2D, { attention, mlp }: PartWeights<Matrix>): Tensor2D {
  return attention ? project(inner, attention.output, attention.outputBias) : project(inner, mlp?.down as Matrix, mlp?.downBias)
}

/** Runs a part up to the input of its last projection, and passes that to the call's observer. */
export function observePart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): void {
  tidy(() => {
    call.observe?.(runUpToLastProjection(part, weights, residual, call))
  })
}

type BeforeLastProjection = PartActivations & { readonly routed?: RoutedExperts }

/** Computes a part up to the input of its last projection. */
function runUpToLastProjection(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): BeforeLastProjection {
  if (weights.attention) return attend(residual.x, weights.attention, blockOf(part), call)
  const source = call.spec.parallelResidual ? residual.source : residual.x
  return weights.mlp ? feed(source, weights.mlp, call.spec) : feedExperts(source, weights.mixture, call)
}

function feedExperts(source: Tensor2D, weights: MixtureWeights<Matrix>, { spec, only }: CallContext): BeforeLastProjection {
  const input = normalizeIf(source, weights.norm)
  const routed = routeTokens(input, weights, spec, only)
  return {
    input,
    get inner(): Tensor2D {
      throw hasExperts()
    },
    routed,
    experts: routed.experts,
  }
}

/** Adds a part's output to the stream, after the part's output norm, scale and shortcut for the stream, if it has them. */
export function addTo(
  residual: Tensor2D,
  output: Tensor2D,
  { outputNorm, shortcut }: AttentionWeights<Matrix> | MlpWeights<Matrix> | MixtureWeights<Matrix>,
  { residualScale }: DecoderSpec,
): Tensor2D {
  const added = normalizeIf(output, outputNorm)
  return add(shortcut ? matMul(residual, shortcut) : residual, residualScale === undefined ? added : mul(added, residualScale))
}

const normalizeIf = (x: Tensor2D, norm: NormWeights | undefined): Tensor2D => (norm ? normalize(x, norm) : x)

/** Makes the residual stream after a part from `x`, which it takes over. Disposes of the stream before the part. */
export function advance(part: Part, before: Residual, x: Tensor2D, spec: DecoderSpec): Residual {
  // A parallel MLP still reads the block's input. If the MLP was removed, the next block begins, with its own input.
  const mlpFollows = isAttention(part) && layoutOf(spec, blockOf(part)).width > 0
  const source = spec.parallelResidual && mlpFollows ? before.source.clone() : x.clone()
  disposeResidual(before)
  return { x, source }
}

export const cloneResidual = ({ x, source }: Residual): Residual => ({ x: x.clone(), source: source.clone() })

export function disposeResidual(residual: Residual): void {
  residual.x.dispose()
  residual.source.dispose()
}

type Input = Pick<PartActivations, 'input'>

/** The input of a part. With `later`, it is computed only when it is read, because the first products apply the norm themselves. */
function inputOf(x: Tensor2D, { norm }: AttentionWeights<Matrix> | MlpWeights<Matrix>, later: boolean): Input {
  if (!later) return { input: normalizeIf(x, norm) }
  return {
    get input() {
      return normalizeIf(x, norm)
    },
  }
}

const withInner = (input: Input, inner: Tensor2D): PartActivations => Object.assign(input, { inner })

function attend(x: Tensor2D, weights: AttentionWeights<Matrix>, block: number, call: CallContext): PartActivations {
  const { queryKeyValue, queryKeyValueBias: bias } = weights
  const input = inputOf(x, weights, isHalf(queryKeyValue))
  const norm = weights.norm && fusedNorm(weights.norm, x)
  const projected = isHalf(queryKeyValue)
    ? halfUnits().product(x, queryKeyValue, { norm, bias })
    : project(input.input, queryKeyValue, bias)
  return withInner(input, weights.delta ? mixDelta(projected, weights.delta, block, call) : mixHeads(projected, weights, block, call))
}

/** Mixes values by softmax attention, and applies the gate on each head if there is one: [B*T, H d]. */
export function mixHeads(projected: Tensor2D, weights: AttentionWeights<Matrix>, block: number, call: CallContext): Tensor2D {
  const { plain, gate } = takeGates(projected, call.spec)
  const normed = normalizeHeads(plain, weights, call.spec)
  const mixed = mix(limitHeads(normed, call.spec), block, call, weights)
  return gate ? mul(mixed, sigmoid(gate)) : mixed
}

function mixDelta(projected: Tensor2D, weights: DeltaWeights, block: number, call: CallContext): Tensor2D {
  const delta = call.spec.delta as DeltaShape
  const { past } = call
  if (!past) return mixByDelta(projected, weights, delta, call.batch).mixed
  const before = past.memories.get(block)
  const { mixed, memory } = mixSequences(projected, weights, delta, past, before)
  past.memories.set(block, { recent: keep(memory.recent), state: keep(memory.state) })
  before?.recent.dispose()
  before?.state.dispose()
  return mixed
}

/**
 * Runs sequences side by side if they all have the same number of new tokens and none continues another of the call; otherwise one by one.
 */
function mixSequences(projected: Tensor2D, weights: DeltaWeights, shape: DeltaShape, { sequences }: Past, before: DeltaMemory | undefined) {
  const isUniform = new Set(sequences.map(({ tokens }) => tokens)).size === 1 && sequences.every(({ from }) => from === undefined)
  if (isUniform) return mixByDelta(projected, weights, shape, sequences.length, before)
  let first = 0
  const mixed: ReturnType<typeof mixByDelta>[] = []
  for (const [index, { tokens, from }] of sequences.entries()) {
    const rows: Tensor2D = slice(projected, [first, 0], [tokens, -1])
    first += tokens
    const memory = from === undefined ? before && memoryOf(before, index, sequences.length) : mixed[from]?.memory
    mixed.push(mixByDelta(rows, weights, shape, 1, memory))
  }
  const join = <T extends Tensor2D | Tensor3D>(parts: T[]): T => concat(parts, 0)
  const memory = { recent: join(mixed.map((one) => one.memory.recent)), state: join(mixed.map((one) => one.memory.state)) }
  return { mixed: join(mixed.map((one) => one.mixed)), memory }
}

function memoryOf({ recent, state }: DeltaMemory, index: number, count: number): DeltaMemory {
  const ofSequence = (x: Tensor3D): Tensor3D => slice(x, [(index * x.shape[0]) / count, 0, 0], [x.shape[0] / count, -1, -1])
  return { recent: ofSequence(recent), state: ofSequence(state) }
}

/** Separates projections into queries, keys and values [B*T, (H + 2K) d], and the gates that follow each head's query, [B*T, H d]. */
export function takeGates(projected: Tensor2D, { heads, headSize, gatedQueries }: DecoderSpec): { plain: Tensor2D; gate?: Tensor2D } {
  if (!gatedQueries) return { plain: projected }
  const both = reshape(slice(projected, [0, 0], [-1, 2 * heads * headSize]), [-1, heads, 2, headSize])
  const half = (which: number): Tensor2D => reshape(slice(both, [0, 0, which, 0], [-1, -1, 1, -1]), [-1, heads * headSize])
  return { plain: concat([half(0), slice(projected, [0, 2 * heads * headSize], [-1, -1])], 1), gate: half(1) }
}

/** Applies the norms on queries and keys, if there are any, to projections [B*T, (H + 2K) d]. */
export function normalizeHeads(projected: Tensor2D, { queryNorm, keyNorm }: AttentionWeights<Matrix>, spec: DecoderSpec): Tensor2D {
  if (!queryNorm || !keyNorm) return projected
  const [queries, keys] = [spec.heads * spec.headSize, spec.keyValueHeads * spec.headSize]
  const columns = (first: number, count: number): Tensor2D => slice(projected, [0, first], [-1, count])
  const normed = [normalizeGroups(columns(0, queries), queryNorm), normalizeGroups(columns(queries, keys), keyNorm)]
  return concat([...normed, columns(queries + keys, keys)], 1)
}

/** Clamps queries, keys and values, if the model does. Queries carry the scale of scores, so their limit does too. */
function limitHeads(projected: Tensor2D, { projectionLimit: limit, heads, headSize, scoreScale }: DecoderSpec): Tensor2D {
  if (limit === undefined) return projected
  const queries = heads * headSize
  const clamp = (first: number, count: number, most: number): Tensor2D =>
    clipByValue(slice(projected, [0, first], [-1, count]), -most, most)
  return concat([clamp(0, queries, limit * scoreScale), clamp(queries, -1, limit)], 1)
}

/**
 * Mixes values by attention. Takes projected queries, keys and values [B*T, (H + 2K) d], and returns [B*T, H d]. The kind of products is
 * that of the attention's weights, but with a past or with weights in three parts it is float32.
 */
function mix(projected: Tensor2D, block: number, call: CallContext, { queryKeyValue: weight, sinks }: AttentionWeights<Matrix>): Tensor2D {
  const { spec, rotary, past } = call
  const { fused } = activeBackend()
  const { heads, keyValueHeads, scoreCap: cap } = spec
  const tables = rotary(block)
  const { cosine, sine } = tables
  const shape = { heads, keyValueHeads, cap, window: spec.slidingWindow(block) ?? 0 }
  if (past && fused?.attendPlaced && !sinks) {
    return fused.attendPlaced(projected, cosine, sine, { ...past.cache.of(block), rows: past.rows, slots: past.slots }, shape)
  }
  if (past) return mixPlaced(splitHeads(projected, tables, spec, 1), past, block, { spec, sinks: sinksOf(sinks, spec) })
  if (isHalf(weight) && weight.parts < 3) return halfUnits().attention(projected, cosine, sine, shape, weight.parts === 2)
  return attendHeads(projected, tables, shape, sinksOf(sinks, spec))
}

/** Arranges sinks by key/value head: [K, H/K]. */
const sinksOf = (sinks: Tensor1D | undefined, { keyValueHeads }: DecoderSpec): Tensor2D | undefined =>
  sinks && reshape<Rank.R2>(sinks, [keyValueHeads, -1])

interface PlacedHeads {
  readonly spec: DecoderSpec
  readonly sinks: Tensor2D | undefined
}

/** Computes the attention of each sequence's rows to all of its slots, for runtimes without an operation for it. */
function mixPlaced(
  { query, key, value }: ReturnType<typeof splitHeads>,
  past: Past,
  block: number,
  { spec, sinks }: PlacedHeads,
): Tensor2D {
  const fresh = past.sequences.flatMap(({ slots, tokens }) => slots.slice(-tokens))
  const cached = past.cache.append(block, fresh, key, value)
  let first = 0
  const mixed = past.sequences.map(({ slots, tokens }): Tensor2D => {
    const places = tensor1d(slots.map(cached.placeOf), 'int32')
    const seen = { key: gather(cached.key, places, 1), value: gather(cached.value, places, 1) }
    const queries: Tensor4D = slice(query, [0, 0, first, 0], [-1, -1, tokens, -1])
    first += tokens
    const window = spec.slidingWindow(block)
    const heads = causalAttention({ query: queries, ...seen, window, cap: spec.scoreCap, sinks }, batchedProduct)
    return reshape(transpose(reshape(heads, [spec.heads, tokens, spec.headSize]), [1, 0, 2]), [tokens, spec.heads * spec.headSize])
  })
  return mixed.length === 1 ? (mixed[0] as Tensor2D) : concat(mixed, 0)
}

function feed(source: Tensor2D, weights: MlpWeights<Matrix>, spec: DecoderSpec): PartActivations {
  const packed = isHalf(weights.up)
  const seen = inputOf(source, weights, packed)
  return withInner(seen, neuronsOf(packed ? source : seen.input, weights, spec))
}
