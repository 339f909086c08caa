import {
  add,
  concat,
  exp,
  mul,
  reshape,
  sigmoid,
  slice,
  softplus,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor3d,
  tile,
  transpose,
} from '@tensorflow/tfjs-core'
import type { DeltaShape } from '#engine/architectures/spec.ts'
import { activate, gateNeurons } from '#engine/tensor/activation.ts'
import { gatedDeltaRule } from '#engine/tensor/delta-rule.ts'
import { type NormWeights, normalize, normalizeGroups } from '#engine/tensor/norm.ts'

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

/**
 * What a DeltaNet remembers of earlier positions: the last k - 1 inputs of its convolution, [B, k - 1, channels], and its state,
 * [B * Hv, dk, dv].
 */
export interface DeltaMemory {
  readonly recent: Tensor3D
  readonly state: Tensor3D
}

export const unit: NormWeights = { kind: 'rms', epsilon: 1e-6, divisor: 1 }

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
  const { gates, recent, rule } = leadToRule(projected, weights, shape, batch, memory)
  const { read, state } = gatedDeltaRule(rule)
  return { mixed: gateNeurons(gates, normalizeGroups(byToken(read, batch), weights.readNorm), 'silu'), memory: { recent, state } }
}

/**
 * Computes the inputs of the delta rule, and returns them with the values on the way there. Gates [N, ...] are as projected, and rates
 * [N, ...] have their offset added.
 */
export function leadToRule(projected: Tensor2D, weights: DeltaWeights, shape: DeltaShape, batch: number, memory?: DeltaMemory) {
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

/** Computes the decay rate -e^A of each head from its stored logarithm A. */
export const decayRateOf = (logarithm: Tensor1D): Tensor1D => mul(exp<Tensor1D>(logarithm), -1)
