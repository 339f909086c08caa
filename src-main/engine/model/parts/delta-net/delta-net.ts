import {
  add,
  concat,
  cumsum,
  exp,
  keep,
  mul,
  pad,
  reshape,
  sigmoid,
  slice,
  softplus,
  sub,
  type Tensor,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor2d,
  tensor3d,
  tile,
  transpose,
} from '@tensorflow/tfjs-core'
import type { DeltaShape } from '#engine/architectures/spec.ts'
import type { DeltaWeights } from '#engine/model/weights/weights.ts'
import { activate, gateNeurons } from '#engine/tensor/activation.ts'
import { type NormWeights, normalize, normalizeGroups } from '#engine/tensor/norm.ts'
import { batchedProduct } from '#engine/tensor/products.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import type { DeltaMemory, Past } from '../attention/cache.ts'
import type { CallContext } from '../part.ts'

export const unit: NormWeights = { kind: 'rms', epsilon: 1e-6, divisor: 1 }

/** Runs a DeltaNet on the rows of a call, and keeps its memory of sequences that continue in later calls. */
export function mixDelta(projected: Tensor2D, weights: DeltaWeights, block: number, call: CallContext): Tensor2D {
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

/**
 * The token mixer of a Gated DeltaNet (arXiv 2412.06464, section 3.4): a short causal convolution over queries, keys and values, the gated
 * delta rule, a norm on each head's result, and a gate. `projected` [B*T, channels + Hv dv + 2 Hv] consists of queries, keys, values,
 * gates, strengths and rates. `mixed` is [B*T, Hv dv].
 */
export function mixByDelta(
  projected: Tensor2D,
  weights: DeltaWeights,
  shape: DeltaShape,
  batch: number,
  memory?: DeltaMemory,
): { mixed: Tensor2D; memory: DeltaMemory } {
  const { gates, recent, rule } = inputsOfRule(projected, weights, shape, batch, memory)
  const { read, state } = gatedDeltaRule(rule)
  return { mixed: gateNeurons(gates, normalizeGroups(byToken(read, batch), weights.readNorm), 'silu'), memory: { recent, state } }
}

/**
 * Computes the inputs of the delta rule, and returns them with the values on the way there. Gates [N, ...] are as projected, and rates
 * [N, ...] have their offset added.
 */
export function inputsOfRule(projected: Tensor2D, weights: DeltaWeights, shape: DeltaShape, batch: number, memory?: DeltaMemory) {
  const { keyHeads, valueHeads, keySize, valueSize } = shape
  const tokens = projected.shape[0] / batch
  const [keys, values] = [keyHeads * keySize, valueHeads * valueSize]
  const columns = (first: number, count: number): Tensor2D => slice(projected, [0, first], [-1, count])
  const inputs: Tensor3D = reshape(columns(0, 2 * keys + values), [batch, tokens, 2 * keys + values])
  const { sum, all, recent } = convolve(inputs, weights.convolution, memory?.recent)
  const mixed: Tensor3D = reshape(activate(sum, 'silu'), inputs.shape)
  const heads = (first: number, count: number, size: number): Tensor3D =>
    byHead(slice(mixed, [0, 0, first], [-1, -1, count * size]), count, size, valueHeads)
  const [query, key] = [heads(0, keyHeads, keySize), heads(keys, keyHeads, keySize)]
  const rates: Tensor2D = add(columns(2 * keys + 2 * values + valueHeads, valueHeads), weights.decayBias)
  const perHead = (x: Tensor2D): Tensor2D =>
    reshape(byHead(reshape(x, [batch, tokens, valueHeads]), valueHeads, 1, valueHeads), [-1, tokens])
  const rule = {
    query: mul<Tensor3D>(unitLength(query), 1 / Math.sqrt(keySize)),
    key: unitLength(key),
    value: heads(2 * keys, valueHeads, valueSize),
    strength: perHead(sigmoid(columns(2 * keys + 2 * values, valueHeads))),
    decay: perHead(mul(softplus(rates), weights.decayRate)),
    state: memory?.state,
  }
  return { sum, all, recent, query, key, gates: columns(2 * keys + values, values), rates, rule }
}

/** Rearranges x [B * heads, T, size] to [B*T, heads * size]. */
export function byToken(x: Tensor3D, batch: number): Tensor2D {
  const [all, tokens, size] = x.shape
  return reshape(transpose(reshape(x, [batch, all / batch, tokens, size]), [0, 2, 1, 3]), [batch * tokens, -1])
}

/**
 * Rearranges x [B, T, heads * size] to [B * wanted, T, size]. Each head is repeated for `wanted / heads` consecutive heads of the result.
 */
export function byHead(x: Tensor3D, heads: number, size: number, wanted: number): Tensor3D {
  const [batch, tokens] = x.shape
  const apart = transpose(reshape(x, [batch, tokens, heads, size]), [0, 2, 1, 3])
  const shared = wanted === heads ? apart : tile(reshape(apart, [batch * heads, 1, tokens, size]), [1, wanted / heads, 1, 1])
  return reshape(shared, [batch * wanted, tokens, size])
}

/** Scales vectors [G, T, d] to length one. */
function unitLength(x: Tensor3D): Tensor3D {
  return reshape(normalize(reshape(x, [-1, x.shape[2]]), unit), x.shape)
}

/**
 * Computes each channel's weighted sum over its last k inputs, [B*T, channels]. Also returns all inputs, and those that the next tokens
 * need.
 */
function convolve(inputs: Tensor3D, weights: Tensor2D, earlier: Tensor3D | undefined) {
  const [batch, tokens, channels] = inputs.shape
  const before = weights.shape[1] - 1
  const past: Tensor3D = earlier ?? tensor3d(new Float32Array(batch * before * channels), [batch, before, channels])
  const all: Tensor3D = concat([past, inputs], 1)
  const terms = Array.from({ length: before + 1 }, (_, back): Tensor3D => {
    const weight: Tensor1D = reshape(slice(weights, [0, back], [-1, 1]), [channels])
    return mul(slice(all, [0, back, 0], [-1, tokens, -1]), weight)
  })
  const sum = terms.reduce((total, term) => add<Tensor3D>(total, term))
  return {
    sum: reshape(sum, [batch * tokens, channels]) as Tensor2D,
    all,
    recent: slice(all, [0, tokens, 0], [-1, before, -1]) as Tensor3D,
  }
}

/** The number of positions that products compute together instead of one by one. */
const chunkLength = 64

/** The inputs of the rule, for G independent heads (samples times value heads) of T tokens. */
export interface DeltaRuleCall {
  /** Queries and keys [G, T, dk], normalised. Queries are also scaled. */
  readonly query: Tensor3D
  readonly key: Tensor3D
  /** [G, T, dv]. */
  readonly value: Tensor3D
  /** How strongly each token writes, 0 to 1: [G, T]. */
  readonly strength: Tensor2D
  /** The logarithm, at most 0, of the share of the state that each token retains: [G, T]. */
  readonly decay: Tensor2D
  /** The state after earlier tokens, [G, dk, dv]. Default: zeros. */
  readonly state?: Tensor3D | undefined
}

/**
 * The gated delta rule (arXiv 2412.06464, Eq. 10). For each token, S = S e^decay, then S += k (strength (v - S' k))', and the token reads
 * S' q. It is computed in chunks as in section 3.3: inverting a triangular matrix gives what all tokens of a chunk write. Returns what is
 * read, [G, T, dv], and the state after the last token, [G, dk, dv].
 */
export function gatedDeltaRule(call: DeltaRuleCall): { read: Tensor3D; state: Tensor3D } {
  return tidied(() => {
    const { read, states } = recur(call, splitChunks(call))
    return { read, state: (states.at(-1) as Tensor3D).clone() }
  })
}

/** Runs the rule over the chunks. Returns what is read, the state before each chunk, and last the state after all of them. */
export function recur(call: DeltaRuleCall, split: DeltaChunks): { read: Tensor3D; states: Tensor3D[] } {
  const [groups, tokens, keySize] = call.key.shape
  const valueSize = call.value.shape[2]
  const prepared = prepareChunks(split)
  const read: Tensor3D[] = []
  let state: Tensor3D = call.state ?? tensor3d(new Float32Array(groups * keySize * valueSize), [groups, keySize, valueSize])
  const states = [state]
  for (let chunk = 0; chunk < split.chunks; chunk++) {
    const at = (x: Tensor3D) => pickChunk(x, chunk, split.chunks)
    const written: Tensor3D = sub(at(prepared.values), batchedProduct(at(prepared.recalled), state, false))
    read.push(add(batchedProduct(at(prepared.query), state, false), batchedProduct(at(prepared.scores), written, false)))
    const keys: Tensor3D = transpose(at(prepared.key), [0, 2, 1])
    state = add(mul(state, at(prepared.left)), batchedProduct(keys, written, false))
    states.push(state)
  }
  const all: Tensor3D = read.length === 1 ? (read[0] as Tensor3D) : concat(read, 1)
  return { read: slice(all, [0, 0, 0], [-1, tokens, -1]), states }
}

/** Selects one chunk of x [G * chunks, rows, columns]: [G, rows, columns]. */
export function pickChunk(x: Tensor3D, chunk: number, chunks: number): Tensor3D {
  const [all, rows, columns] = x.shape
  const apart = reshape(x, [all / chunks, chunks, rows, columns])
  return reshape(slice(apart, [0, chunk, 0, 0], [-1, 1, -1, -1]), [all / chunks, rows, columns])
}

/** The inputs of a call, divided into chunks [G * chunks, length, ...], and what follows from them without the state. */
export interface DeltaChunks {
  readonly chunks: number
  readonly length: number
  readonly query: Tensor3D
  readonly key: Tensor3D
  readonly value: Tensor3D
  readonly strength: Tensor3D
  /** Logarithms of the decay from the start of the chunk up to each token; and the decay between any two tokens. */
  readonly sofar: Tensor3D
  readonly between: Tensor3D
  /**
   * The inverse of I + strength k k' between, taken below the diagonal. It turns what each token would write by itself into what all tokens
   * of the chunk write in sequence.
   */
  readonly inverse: Tensor3D
}

/** Divides x [G, T] or [G, T, width] into chunks [G * chunks, length, width], padded with zeros after the last token. */
export function inChunks(x: Tensor2D | Tensor3D, chunks: number, length: number): Tensor3D {
  const [groups, tokens, width = 1] = x.shape
  const padding = x.shape.map((_, axis) => [0, axis === 1 ? chunks * length - tokens : 0]) as [number, number][]
  return reshape(chunks * length === tokens ? x : pad(x as Tensor, padding), [groups * chunks, length, width])
}

export function splitChunks({ query, key, value, strength, decay }: DeltaRuleCall): DeltaChunks {
  const [, tokens] = key.shape
  const length = Math.min(chunkLength, tokens)
  const chunks = Math.ceil(tokens / length)
  const split = (x: Tensor2D | Tensor3D) => inChunks(x, chunks, length)
  const [keys, strengths, sofar] = [split(key), split(strength), cumsum<Tensor3D>(split(decay), 1)]
  const between = decayBetween(sofar, length)
  const inverse = invertTriangles(mul(batchedProduct(mul<Tensor3D>(keys, strengths), keys, true), between))
  return { chunks, length, query: split(query), key: keys, value: split(value), strength: strengths, sofar, between, inverse }
}

/** Computes everything for each chunk that does not depend on the state: [G * chunks, length, ...]. */
function prepareChunks({ query, key, value, strength, sofar, between, inverse, length }: DeltaChunks) {
  const last: Tensor3D = slice(sofar, [0, length - 1, 0], [-1, 1, -1])
  return {
    values: batchedProduct(inverse, mul(value, strength), false),
    recalled: batchedProduct(inverse, mul(mul(key, strength), exp(sofar)), false),
    scores: mul<Tensor3D>(batchedProduct(query, key, true), between),
    query: mul<Tensor3D>(query, exp(sofar)),
    key: mul<Tensor3D>(key, exp(sub(last, sofar))),
    left: exp<Tensor3D>(last),
  }
}

/**
 * Computes e^(sum of decays after token j up to token i) for j <= i, else 0: [N, length, length]. `sofar` are sums from the start, [N,
 * length, 1].
 */
function decayBetween(sofar: Tensor3D, length: number): Tensor3D {
  const seen = new Float32Array(length * length)
  for (let row = 0; row < length; row++) seen.fill(1, row * length, row * length + row + 1)
  const lower = tensor2d(seen, [length, length])
  const difference = sub(sofar, transpose(sofar, [0, 2, 1]))
  // Above the diagonal, differences are positive and their exponentials could overflow, so they are set to zero first.
  return mul(exp(mul(difference, lower)), lower)
}

/** Inverts I + L for each matrix of x [N, n, n], where L is its part below the diagonal. Computes row by row in float64. */
function invertTriangles(x: Tensor3D): Tensor3D {
  const [count, size] = x.shape
  const values = x.dataSync()
  const result = new Float32Array(values.length)
  const inverse = new Float64Array(size * size)
  for (let matrix = 0; matrix < count; matrix++) {
    const from = matrix * size * size
    for (let row = 0; row < size; row++) {
      inverse.fill(0, row * size, (row + 1) * size)
      inverse[row * size + row] = 1
      for (let other = 0; other < row; other++) {
        const factor = values[from + row * size + other] as number
        for (let column = 0; column <= other; column++) {
          inverse[row * size + column] = (inverse[row * size + column] as number) - factor * (inverse[other * size + column] as number)
        }
      }
    }
    result.set(inverse, from)
  }
  return tensor3d(result, [count, size, size])
}
