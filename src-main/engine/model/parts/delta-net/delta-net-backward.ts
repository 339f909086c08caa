import {
  add,
  concat,
  cumsum,
  exp,
  mul,
  neg,
  pad,
  reshape,
  sigmoid,
  slice,
  softplus,
  stack,
  sub,
  sum,
  type Tensor1D,
  type Tensor2D,
  type Tensor3D,
  tensor2d,
  transpose,
  zerosLike,
} from '@tensorflow/tfjs-core'
import type { DeltaShape } from '#engine/architectures/spec.ts'
import type { DeltaWeights } from '#engine/model/weights/weights.ts'
import { neuronsBackward } from '#engine/tensor/activation.ts'
import { normalizeBackward, normalizeGroups, normalizeGroupsBackward } from '#engine/tensor/norm.ts'
import { batchedCorrelation, batchedProduct } from '#engine/tensor/products.ts'
import { tidied } from '#engine/tensor/tidied.ts'
import type { Gradients } from '../part.ts'
import {
  byHead,
  byToken,
  type DeltaChunks,
  type DeltaRuleCall,
  gatedDeltaRule,
  inChunks,
  inputsOfRule,
  pickChunk,
  recur,
  splitChunks,
  unit,
} from './delta-net.ts'

type RuleInputs = ReturnType<typeof inputsOfRule>

/**
 * Returns the gradients of `mixByDelta` without a memory, given that of its result, [N, Hv dv]: those of its projected input, and of the
 * tensors of the DeltaNet as a checkpoint stores them. Everything up to the result is computed again.
 */
export function mixByDeltaBackward(
  projected: Tensor2D,
  weights: DeltaWeights,
  shape: DeltaShape,
  batch: number,
  gradient: Tensor2D,
): { readonly projected: Tensor2D; readonly gradients: Gradients } {
  return tidied(() => {
    const forward = inputsOfRule(projected, weights, shape, batch)
    const read = byToken(gatedDeltaRule(forward.rule).read, batch)
    const gated = neuronsBackward(forward.gates, normalizeGroups(read, weights.readNorm), 'silu', gradient)
    const behind = normalizeGroupsBackward(read, weights.readNorm, gated.up)
    const by = gatedDeltaRuleBackward(
      forward.rule,
      byHead(reshape(behind.x, [batch, -1, behind.x.shape[1]]), shape.valueHeads, shape.valueSize, shape.valueHeads),
    )
    const joined = [
      joinHeads(unitBackward(forward.query, mul(by.query, 1 / Math.sqrt(shape.keySize))), shape.keyHeads, batch),
      joinHeads(unitBackward(forward.key, by.key), shape.keyHeads, batch),
      byToken(by.value, batch),
    ]
    const { inputs, weights: convolution } = convolveBackward(forward, weights.convolution, concat(joined, 1))
    const perToken = (x: Tensor2D): Tensor2D => byToken(reshape(x, [...x.shape, 1]), batch)
    const strength = perToken(forward.rule.strength)
    const byStrength: Tensor2D = mul(perToken(by.strength), mul(strength, sub(1, strength)))
    const decay = perToken(by.decay)
    const byRate: Tensor2D = mul(mul(decay, weights.decayRate), sigmoid(forward.rates))
    return {
      projected: concat([inputs, gated.gate as Tensor2D, byStrength, byRate], 1),
      gradients: {
        convolution,
        // The rate is minus the exponent of the stored value.
        decay: mul<Tensor1D>(sum(mul(decay, softplus(forward.rates)), 0), weights.decayRate),
        rateBias: sum<Tensor1D>(byRate, 0),
        readNorm: behind.weight,
      },
    }
  })
}

/** Returns the gradient before vectors [G, T, d] were scaled to length one. */
function unitBackward(x: Tensor3D, gradient: Tensor3D): Tensor3D {
  const rows = (one: Tensor3D): Tensor2D => reshape(one, [-1, x.shape[2]])
  return reshape(normalizeBackward(rows(x), unit, rows(gradient)).x, x.shape)
}

/** Sums x [B * Hv, T, d] over the value heads that share a key head: [B*T, heads * d]. */
function joinHeads(x: Tensor3D, heads: number, batch: number): Tensor2D {
  const [all, tokens, size] = x.shape
  const served = reshape(x, [batch * heads, all / batch / heads, tokens, size])
  return byToken(sum<Tensor3D>(served, 1), batch)
}

/** Returns the gradients of the convolution, given that of the SiLU after it, [N, channels]. */
function convolveBackward(
  { sum: sums, all }: RuleInputs,
  weights: Tensor2D,
  gradient: Tensor2D,
): { readonly inputs: Tensor2D; readonly weights: Tensor2D } {
  const [batch, long, channels] = all.shape
  const before = weights.shape[1] - 1
  const tokens = long - before
  const bySums: Tensor3D = reshape(neuronsBackward(undefined, sums, 'silu', gradient).up, [batch, tokens, channels])
  const taps = Array.from({ length: before + 1 }, (_, tap) => tap)
  const byTaps = taps.map((tap): Tensor1D => sum(mul(bySums, slice(all, [0, tap, 0], [-1, tokens, -1])), [0, 1]))
  // Each sum reads the inputs up to its own position, so an input is read by the sums at its own position and those shortly after it.
  const later: Tensor3D = pad(bySums, [
    [0, 0],
    [0, before],
    [0, 0],
  ])
  const terms = taps.map((tap): Tensor3D => {
    const weight: Tensor1D = reshape(slice(weights, [0, tap], [-1, 1]), [channels])
    return mul(slice(later, [0, before - tap, 0], [-1, tokens, -1]), weight)
  })
  return { inputs: reshape(sumOf(...terms), [batch * tokens, channels]), weights: transpose(stack(byTaps) as Tensor2D) }
}

/** Gradients of a loss with respect to the inputs of the rule, in the shapes of the call. */
export interface DeltaRuleGradients {
  readonly query: Tensor3D
  readonly key: Tensor3D
  readonly value: Tensor3D
  readonly strength: Tensor2D
  readonly decay: Tensor2D
}

type ChunkGradients = Record<keyof DeltaRuleGradients | 'state', Tensor3D>

/**
 * Computes these, given the gradient with respect to `read` of `gatedDeltaRule`, [G, T, dv]. Recomputes the states, then processes the
 * chunks from the last to the first.
 */
export function gatedDeltaRuleBackward(call: DeltaRuleCall, gradient: Tensor3D): DeltaRuleGradients {
  return tidied(() => {
    const split = splitChunks(call)
    const { states } = recur(call, split)
    const byRead = inChunks(gradient, split.chunks, split.length)
    const found: ChunkGradients[] = []
    let byState: Tensor3D = zerosLike(states[0] as Tensor3D)
    for (let chunk = split.chunks - 1; chunk >= 0; chunk--) {
      const at = (x: Tensor3D) => pickChunk(x, chunk, split.chunks)
      const ofChunk = tidied(() => chunkBackward(pickAll(split, at), states[chunk] as Tensor3D, at(byRead), byState))
      found.unshift(ofChunk)
      byState = ofChunk.state
    }
    const [groups, tokens] = call.key.shape
    const join = (key: keyof ChunkGradients): Tensor3D =>
      slice(
        concat(
          found.map((ofChunk) => ofChunk[key]),
          1,
        ),
        [0, 0, 0],
        [-1, tokens, -1],
      )
    const perToken = (key: keyof ChunkGradients): Tensor2D => reshape(join(key), [groups, tokens])
    return {
      query: join('query'),
      key: join('key'),
      value: join('value'),
      strength: perToken('strength'),
      decay: perToken('decay'),
    }
  })
}

type Chunk = Pick<DeltaChunks, 'query' | 'key' | 'value' | 'strength' | 'sofar' | 'between' | 'inverse'>

function pickAll({ query, key, value, strength, sofar, between, inverse }: DeltaChunks, at: (x: Tensor3D) => Tensor3D): Chunk {
  return {
    query: at(query),
    key: at(key),
    value: at(value),
    strength: at(strength),
    sofar: at(sofar),
    between: at(between),
    inverse: at(inverse),
  }
}

/**
 * The backward pass of one chunk. In the forward pass (section 3.3), e is the decay up to a token, f the decay from it to the end of the
 * chunk, and S the state before the chunk. Then w = inverse strength (v - e k S), read = e q S + (q k' between) w, and the state after the
 * chunk is left S + (f k)' w. `byX` is the gradient with respect to X.
 */
function chunkBackward(chunk: Chunk, state: Tensor3D, byRead: Tensor3D, byState: Tensor3D): ChunkGradients {
  const { query, key, value, strength, sofar, between, inverse } = chunk
  const last: Tensor3D = slice(sofar, [0, sofar.shape[1] - 1, 0], [-1, 1, -1])
  const [grown, ahead, left] = [exp<Tensor3D>(sofar), exp<Tensor3D>(sub(last, sofar)), exp<Tensor3D>(last)]
  const [queries, keys, lastKeys] = [mul<Tensor3D>(query, grown), mul<Tensor3D>(key, grown), mul<Tensor3D>(key, ahead)]
  const missing: Tensor3D = sub(value, batchedProduct(keys, state, false))
  const written = batchedProduct(inverse, mul(missing, strength), false)
  const [likeness, scores] = [batchedProduct(key, key, true), batchedProduct(query, key, true)]
  const byWritten: Tensor3D = add(batchedCorrelation(mul(scores, between), byRead), batchedProduct(lastKeys, byState, false))
  const byWish = batchedCorrelation(inverse, byWritten)
  const byMissing: Tensor3D = mul(byWish, strength)
  // The gradients with respect to the matrix that is inverted, which is used below the diagonal, and to the scores, used up to it.
  const byTriangle: Tensor3D = mul(mul(neg(batchedProduct(byWish, written, true)), between), belowDiagonal(sofar.shape[1]))
  const byLikeness: Tensor3D = mul(byTriangle, strength)
  const byScores: Tensor3D = mul(batchedProduct(byRead, written, true), between)
  const [byQueries, byLastKeys] = [batchedProduct(byRead, state, true), batchedProduct(written, byState, true)]
  const byKeys: Tensor3D = neg(batchedProduct(byMissing, state, true))
  const byBetween: Tensor3D = add(mul(byLikeness, likeness), mul(byScores, scores))
  const [ofQueries, ofKeys, ofLast] = [rowDots(byQueries, queries), rowDots(byKeys, keys), rowDots(byLastKeys, lastKeys)]
  const bySofar = sub(add(add(rowDots(byBetween), ofQueries), ofKeys), add(rowDots(transpose(byBetween, [0, 2, 1])), ofLast))
  const byEnd: Tensor3D = add(sum(ofLast, 1, true), mul(left, sum(rowDots(byState, state), 1, true)))
  return {
    query: add(batchedProduct(byScores, key, false), mul(byQueries, grown)),
    key: sumOf(
      batchedProduct(byLikeness, key, false),
      batchedCorrelation(byLikeness, key),
      batchedCorrelation(byScores, query),
      mul(byKeys, grown),
      mul(byLastKeys, ahead),
    ),
    value: byMissing,
    strength: add(rowDots(byWish, missing), rowDots(byTriangle, likeness)),
    decay: add(cumsum(bySofar, 1, false, true), byEnd),
    state: sumOf(batchedCorrelation(queries, byRead), mul(byState, left), neg(batchedCorrelation(keys, byMissing))),
  }
}

export const sumOf = (...terms: readonly Tensor3D[]): Tensor3D => terms.reduce((total, term) => add<Tensor3D>(total, term))

/** Sums a, or a * b if b is given, over the last axis: [G, rows, 1]. */
const rowDots = (a: Tensor3D, b?: Tensor3D): Tensor3D => sum(b ? mul<Tensor3D>(a, b) : a, 2, true)

function belowDiagonal(size: number): Tensor2D {
  const below = new Float32Array(size * size)
  for (let row = 0; row < size; row++) below.fill(1, row * size, row * size + row)
  return tensor2d(below, [size, size])
}
