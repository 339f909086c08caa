import {
  add,
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
import { halfUnits } from '#engine/tensor/half-units.ts'
import { attendHeads, splitHeads } from '#engine/tensor/heads.ts'
import { fusedNorm, type NormWeights, normalize, normalizeGroups } from '#engine/tensor/norm.ts'
import { batchedProduct, isHalf, type Matrix, project } from '#engine/tensor/products.ts'
import type { RotaryTables } from '#engine/tensor/rotary.ts'
import type { Past } from './cache.ts'
import { type DeltaMemory, type DeltaWeights, mixByDelta } from './delta-net.ts'
import { combineExperts, type ExpertActivations, type RoutedExperts, routeTokens } from './experts/mixture.ts'
import { neuronsOf } from './neurons.ts'
import type { AttentionWeights, MixtureWeights, MlpWeights, Part, PartWeights } from './weights/weights.ts'
import { blockOf, isAttention } from './weights/weights.ts'

/** Residual stream at a part's input, [B*T, D]. `source` is the block's input, which a parallel MLP reads. */
export interface Residual {
  readonly x: Tensor2D
  readonly source: Tensor2D
}

/** What one call of the decoder shares among its parts. */
export interface CallContext {
  readonly spec: DecoderSpec
  /** B samples of T tokens each; with a past, one sample of all rows. */
  readonly batch: number
  readonly tokens: number
  readonly rotary: (block: number) => RotaryTables
  /** The rows' places in sequences that began in earlier calls. */
  readonly past?: Past
  /** Receives what the part reads and writes, valid during the call. */
  readonly observe?: (seen: PartActivations) => void
  /** Receives sums of an MLP's neurons over each sample, valid during the call. */
  readonly sumNeurons?: (sums: NeuronSums) => void
  /** For a mixture that is only observed: which experts run. Default: all. */
  readonly only?: ((expert: number) => boolean) | undefined
}

/** Sums of each neuron's magnitudes or squares over the positions of each sample: [B, I] row by row. */
export type NeuronSums = (of: 'magnitudes' | 'squares') => ArrayLike<number>

/** The inputs and outputs of a part's projections: all that fitting them needs. */
export interface PartActivations {
  /** Input of the first projections: the stream after the norm, [B*T, D]. */
  readonly input: Tensor2D
  /** Input of the last projection: mixed heads [B*T, H d], or neurons [B*T, I]. A mixture has many, so reading it throws. */
  readonly inner: Tensor2D
  /** For a mixture: the input and output of each chosen expert. Experts read from disk are shown one by one, while `more` is set. */
  readonly experts?: readonly ExpertActivations[]
  readonly more?: boolean
  /** The addition to the stream, [B*T, D]; absent if only what leads up to it was computed. */
  readonly output?: Tensor2D
}

/** Runs one part on a residual stream. Returns the stream after it, which the caller disposes of. */
export function runPart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): Tensor2D {
  return tidy(() => {
    const seen = leadUp(part, weights, residual, call)
    const output = outputOf(seen, weights, call.spec)
    call.observe?.(Object.assign(seen, { output }))
    return addTo(residual.x, output, weights.attention ?? weights.mlp ?? weights.mixture, call.spec)
  })
}

/** The stream after a part, from the input of its last projection. The caller disposes of it. */
export function completePart(inner: Tensor2D, weights: PartWeights<Matrix>, { x }: Residual, spec: DecoderSpec): Tensor2D {
  return tidy(() => addTo(x, lastProduct(inner, weights), weights.attention ?? (weights.mlp as MlpWeights<Matrix>), spec))
}

function outputOf(seen: LedUp, weights: PartWeights<Matrix>, spec: DecoderSpec): Tensor2D {
  return seen.routed ? combineExperts(seen.input, seen.routed, spec) : lastProduct(seen.inner, weights)
}

function lastProduct(inner: Tensor2D, { attention, mlp }: PartWeights<Matrix>): Tensor2D {
  return attention ? project(inner, attention.output, attention.outputBias) : project(inner, mlp?.down as Matrix, mlp?.downBias)
}

/** Shows the call's observer the input of a part's last projection, and stops before that product. */
export function observePart(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): void {
  tidy(() => {
    call.observe?.(leadUp(part, weights, residual, call))
  })
}

type LedUp = PartActivations & { readonly routed?: RoutedExperts }

/** A part up to its last projection. */
function leadUp(part: Part, weights: PartWeights<Matrix>, residual: Residual, call: CallContext): LedUp {
  if (weights.attention) return attend(residual.x, weights.attention, blockOf(part), call)
  const source = call.spec.parallelResidual ? residual.source : residual.x
  return weights.mlp ? feed(source, weights.mlp, call.spec) : feedExperts(source, weights.mixture, call)
}

function feedExperts(source: Tensor2D, weights: MixtureWeights<Matrix>, { spec, only }: CallContext): LedUp {
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

/** Adds a part's output to the stream: normed, scaled, and onto the stream's shortcut, as the part has them. */
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

/** The residual stream after a part, with its own tensors. Disposes of the one before it. */
export function advance(part: Part, before: Residual, x: Tensor2D, spec: DecoderSpec): Residual {
  // A parallel MLP still reads the block's input. If it was removed, the next block begins.
  const mlpFollows = isAttention(part) && layoutOf(spec, blockOf(part)).width > 0
  const source = spec.parallelResidual && mlpFollows ? before.source.clone() : x.clone()
  disposeResidual(before)
  return { x, source }
}

export function disposeResidual(residual: Residual): void {
  residual.x.dispose()
  residual.source.dispose()
}

type Input = Pick<PartActivations, 'input'>

/** The input of a part. It is computed only on demand if the first products take the stream and norm it themselves. */
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

/** Values mixed by softmax attention, through the gate on each head if there is one: [B*T, H d]. */
export function mixHeads(projected: Tensor2D, weights: AttentionWeights<Matrix>, block: number, call: CallContext): Tensor2D {
  const { plain, gate } = takeGates(projected, call.spec)
  const normed = normalizeHeads(plain, weights, call.spec)
  const mixed = mix(normed, block, call, weights)
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

/** Sequences with equally many new tokens run side by side; others, and those that continue one of the call, run one by one. */
function mixSequences(projected: Tensor2D, weights: DeltaWeights, shape: DeltaShape, { sequences }: Past, before: DeltaMemory | undefined) {
  const isUniform = new Set(sequences.map(({ tokens }) => tokens)).size === 1 && sequences.every(({ from }) => from === undefined)
  if (isUniform) return mixByDelta(projected, weights, shape, sequences.length, before)
  let first = 0
  const mixed: ReturnType<typeof mixByDelta>[] = []
  for (const [index, { tokens, from }] of sequences.entries()) {
    const own: Tensor2D = slice(projected, [first, 0], [tokens, -1])
    first += tokens
    const memory = from === undefined ? before && memoryOf(before, index, sequences.length) : mixed[from]?.memory
    mixed.push(mixByDelta(own, weights, shape, 1, memory))
  }
  const join = <T extends Tensor2D | Tensor3D>(parts: T[]): T => concat(parts, 0)
  const memory = { recent: join(mixed.map((one) => one.memory.recent)), state: join(mixed.map((one) => one.memory.state)) }
  return { mixed: join(mixed.map((one) => one.mixed)), memory }
}

function memoryOf({ recent, state }: DeltaMemory, index: number, count: number): DeltaMemory {
  const own = (x: Tensor3D): Tensor3D => slice(x, [(index * x.shape[0]) / count, 0, 0], [x.shape[0] / count, -1, -1])
  return { recent: own(recent), state: own(state) }
}

/** Projections without the gates that follow each head's query, and the gates: [B*T, (H + 2K) d] and [B*T, H d]. */
export function takeGates(projected: Tensor2D, { heads, headSize, gatedQueries }: DecoderSpec): { plain: Tensor2D; gate?: Tensor2D } {
  if (!gatedQueries) return { plain: projected }
  const both = reshape(slice(projected, [0, 0], [-1, 2 * heads * headSize]), [-1, heads, 2, headSize])
  const half = (which: number): Tensor2D => reshape(slice(both, [0, 0, which, 0], [-1, -1, 1, -1]), [-1, heads * headSize])
  return { plain: concat([half(0), slice(projected, [0, 2 * heads * headSize], [-1, -1])], 1), gate: half(1) }
}

/** Applies the norms on queries and keys to projections [B*T, (H + 2K) d]. */
export function normalizeHeads(projected: Tensor2D, { queryNorm, keyNorm }: AttentionWeights<Matrix>, spec: DecoderSpec): Tensor2D {
  if (!queryNorm || !keyNorm) return projected
  const [queries, keys] = [spec.heads * spec.headSize, spec.keyValueHeads * spec.headSize]
  const columns = (first: number, count: number): Tensor2D => slice(projected, [0, first], [-1, count])
  const normed = [normalizeGroups(columns(0, queries), queryNorm), normalizeGroups(columns(queries, keys), keyNorm)]
  return concat([...normed, columns(queries + keys, keys)], 1)
}

/**
 * Values mixed by attention, from projected queries, keys and values [B*T, (H + 2K) d]: [B*T, H d]. Uses the kind of products that `weight`
 * takes.
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

/** Sinks by key head: [K, H/K]. */
const sinksOf = (sinks: Tensor1D | undefined, { keyValueHeads }: DecoderSpec): Tensor2D | undefined =>
  sinks && reshape<Rank.R2>(sinks, [keyValueHeads, -1])

interface PlacedHeads {
  readonly spec: DecoderSpec
  readonly sinks: Tensor2D | undefined
}

/** Attention of each sequence's rows after what its slots hold. */
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
    const own: Tensor4D = slice(query, [0, 0, first, 0], [-1, -1, tokens, -1])
    first += tokens
    const window = spec.slidingWindow(block)
    const heads = causalAttention({ query: own, ...seen, window, cap: spec.scoreCap, sinks }, batchedProduct)
    return reshape(transpose(reshape(heads, [spec.heads, tokens, spec.headSize]), [1, 0, 2]), [tokens, spec.heads * spec.headSize])
  })
  return mixed.length === 1 ? (mixed[0] as Tensor2D) : concat(mixed, 0)
}

function feed(source: Tensor2D, weights: MlpWeights<Matrix>, spec: DecoderSpec): PartActivations {
  const packed = isHalf(weights.up)
  const seen = inputOf(source, weights, packed)
  return withInner(seen, neuronsOf(packed ? source : seen.input, weights, spec))
}
