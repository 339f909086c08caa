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

/** What a Gated DeltaNet has besides its projections. */
export interface DeltaWeights {
  /** Weights of the last k inputs of each channel of queries, keys and values, the present one last: [channels, k]. */
  readonly convolution: Tensor2D
  /** How fast each value head forgets, negative, and what is added to its projected rate: [Hv]. */
  readonly decayRate: Tensor1D
  readonly decayBias: Tensor1D
  /** On what each head reads. */
  readonly readNorm: NormWeights
}

/** What a DeltaNet keeps of positions it has seen: the last k - 1 inputs of its convolution [B, k - 1, channels], its state [B * Hv, dk, dv]. */
export interface DeltaMemory {
  readonly recent: Tensor3D
  readonly state: Tensor3D
}

const unit: NormWeights = { kind: 'rms', epsilon: 1e-6, divisor: 1 }

/**
 * The token mixer of a Gated DeltaNet (arXiv 2412.06464, section 3.4): a short causal convolution over queries, keys and values, the gated
 * delta rule, a norm of each head's result and a gate. `projected` [B*T, channels + Hv dv + 2 Hv] holds queries, keys, values, gates,
 * strengths and rates; the result is [B*T, Hv dv].
 */
export function mixByDelta(
  projected: Tensor2D,
  weights: DeltaWeights,
  shape: DeltaShape,
  batch: number,
  memory?: DeltaMemory,
): { mixed: Tensor2D; memory: DeltaMemory } {
  const { keyHeads, valueHeads, keySize, valueSize } = shape
  const tokens = projected.shape[0] / batch
  const [keys, values] = [keyHeads * keySize, valueHeads * valueSize]
  const columns = (first: number, count: number): Tensor2D => slice(projected, [0, first], [-1, count])
  const inputs: Tensor3D = reshape(columns(0, 2 * keys + values), [batch, tokens, 2 * keys + values])
  const { mixed, recent } = convolve(inputs, weights.convolution, memory?.recent)
  const heads = (first: number, count: number, size: number): Tensor3D =>
    byHead(slice(mixed, [0, 0, first], [-1, -1, count * size]), count, size, valueHeads)
  const scaled = mul<Tensor3D>(unitLength(heads(0, keyHeads, keySize)), 1 / Math.sqrt(keySize))
  const gates = columns(2 * keys + values, values)
  const perHead = (x: Tensor2D): Tensor2D =>
    reshape(byHead(reshape(x, [batch, tokens, valueHeads]), valueHeads, 1, valueHeads), [-1, tokens])
  const { read, state } = gatedDeltaRule({
    query: scaled,
    key: unitLength(heads(keys, keyHeads, keySize)),
    value: heads(2 * keys, valueHeads, valueSize),
    strength: perHead(sigmoid(columns(2 * keys + 2 * values, valueHeads))),
    decay: perHead(mul(softplus(add(columns(2 * keys + 2 * values + valueHeads, valueHeads), weights.decayBias)), weights.decayRate)),
    state: memory?.state,
  })
  const byToken: Tensor2D = reshape(transpose(reshape(read, [batch, valueHeads, tokens, valueSize]), [0, 2, 1, 3]), [-1, values])
  return { mixed: gateNeurons(gates, normalizeGroups(byToken, weights.readNorm), 'silu'), memory: { recent, state } }
}

/** x [B, T, heads * size] as [B * wanted, T, size]; each head serves `wanted / heads` consecutive ones. */
function byHead(x: Tensor3D, heads: number, size: number, wanted: number): Tensor3D {
  const [batch, tokens] = x.shape
  const apart = transpose(reshape(x, [batch, tokens, heads, size]), [0, 2, 1, 3])
  const shared = wanted === heads ? apart : tile(reshape(apart, [batch * heads, 1, tokens, size]), [1, wanted / heads, 1, 1])
  return reshape(shared, [batch * wanted, tokens, size])
}

/** Vectors [G, T, d] at length one. */
function unitLength(x: Tensor3D): Tensor3D {
  return reshape(normalize(reshape(x, [-1, x.shape[2]]), unit), x.shape)
}

/** Each channel's weighted sum over its last k inputs, through SiLU: [B, T, channels], and the inputs that the next tokens need. */
function convolve(inputs: Tensor3D, weights: Tensor2D, earlier: Tensor3D | undefined): { mixed: Tensor3D; recent: Tensor3D } {
  const [batch, tokens, channels] = inputs.shape
  const before = weights.shape[1] - 1
  const past: Tensor3D = earlier ?? tensor3d(new Float32Array(batch * before * channels), [batch, before, channels])
  const all: Tensor3D = concat([past, inputs], 1)
  const terms = Array.from({ length: before + 1 }, (_, back): Tensor3D => {
    const weight: Tensor1D = reshape(slice(weights, [0, back], [-1, 1]), [channels])
    return mul(slice(all, [0, back, 0], [-1, tokens, -1]), weight)
  })
  const sum = terms.reduce((total, term) => add<Tensor3D>(total, term))
  const mixed = activate(reshape(sum, [batch * tokens, channels]), 'silu')
  return { mixed: reshape(mixed, [batch, tokens, channels]), recent: slice(all, [0, tokens, 0], [-1, before, -1]) }
}

/** The decay rate of each head from its stored logarithm: -e^A. */
export const decayRateOf = (logarithm: Tensor1D): Tensor1D => mul(exp<Tensor1D>(logarithm), -1)
