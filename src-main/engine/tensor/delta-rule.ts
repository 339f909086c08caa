import {
  add,
  concat,
  cumsum,
  exp,
  mul,
  pad,
  reshape,
  slice,
  sub,
  type Tensor,
  type Tensor2D,
  type Tensor3D,
  tensor2d,
  tensor3d,
  tidy,
  transpose,
} from '@tensorflow/tfjs-core'
import { batchedProduct } from './products.ts'

/** Positions that are computed by products instead of one after the other. */
const chunkLength = 64

/** G independent heads (samples times value heads) of T tokens. */
interface DeltaRuleCall {
  /** Queries and keys [G, T, dk], normalised, queries scaled. */
  readonly query: Tensor3D
  readonly key: Tensor3D
  /** [G, T, dv]. */
  readonly value: Tensor3D
  /** How strongly each token writes, 0 to 1: [G, T]. */
  readonly strength: Tensor2D
  /** Logarithm of what is left of the state at each token, at most 0: [G, T]. */
  readonly decay: Tensor2D
  /** What earlier tokens left, [G, dk, dv]. */
  readonly state?: Tensor3D | undefined
}

/**
 * The gated delta rule (arXiv 2412.06464, Eq. 10): S = S e^decay; S += k (strength (v - S' k))'; each token reads S' q.
 * Chunk by chunk as its section 3.3 has it: within one, what tokens write is found by inverting a triangle.
 * Gives what is read, [G, T, dv], and the state behind the last token, [G, dk, dv].
 */
export function gatedDeltaRule(call: DeltaRuleCall): { read: Tensor3D; state: Tensor3D } {
  return tidy(() => recur(call) as never) as unknown as { read: Tensor3D; state: Tensor3D }
}

function recur(call: DeltaRuleCall): { read: Tensor3D; state: Tensor3D } {
  const [groups, tokens, keySize] = call.key.shape
  const valueSize = call.value.shape[2]
  const length = Math.min(chunkLength, tokens)
  const chunks = Math.ceil(tokens / length)
  const inChunks = chunked(call, chunks, length)
  const pick = (x: Tensor3D, chunk: number): Tensor3D => {
    const [, rows, columns] = x.shape
    const apart = reshape(x, [groups, chunks, rows, columns])
    return reshape(slice(apart, [0, chunk, 0, 0], [-1, 1, -1, -1]), [groups, rows, columns])
  }
  const read: Tensor3D[] = []
  let state: Tensor3D = call.state ?? tensor3d(new Float32Array(groups * keySize * valueSize), [groups, keySize, valueSize])
  for (let chunk = 0; chunk < chunks; chunk++) {
    const at = (x: Tensor3D) => pick(x, chunk)
    const written: Tensor3D = sub(at(inChunks.values), batchedProduct(at(inChunks.recalled), state, false))
    read.push(add(batchedProduct(at(inChunks.query), state, false), batchedProduct(at(inChunks.scores), written, false)))
    const keys: Tensor3D = transpose(at(inChunks.key), [0, 2, 1])
    state = add(mul(state, at(inChunks.left)), batchedProduct(keys, written, false))
  }
  const all: Tensor3D = read.length === 1 ? (read[0] as Tensor3D) : concat(read, 1)
  return { read: slice(all, [0, 0, 0], [-1, tokens, -1]), state: state.clone() }
}

/** What each chunk needs of its own tokens, [G * chunks, length, ...]: nothing here depends on the state. */
function chunked({ query, key, value, strength, decay }: DeltaRuleCall, chunks: number, length: number) {
  const [groups, tokens] = key.shape
  const padding = chunks * length - tokens
  const split = <T extends Tensor>(x: T, width: number): Tensor3D => {
    const whole = padding === 0 ? x : pad(x, x.shape.map((_, axis) => [0, axis === 1 ? padding : 0]) as [number, number][])
    return reshape(whole, [groups * chunks, length, width])
  }
  const [queries, keys, values] = [split(query, query.shape[2]), split(key, key.shape[2]), split(value, value.shape[2])]
  const strengths = split(strength, 1)
  const sofar: Tensor3D = cumsum(split(decay, 1), 1)
  const between = decayBetween(sofar, length)
  const weak: Tensor3D = mul(keys, strengths)
  const inverse = invertTriangles(mul(batchedProduct(weak, keys, true), between))
  const last: Tensor3D = slice(sofar, [0, length - 1, 0], [-1, 1, -1])
  return {
    values: batchedProduct(inverse, mul(values, strengths), false),
    recalled: batchedProduct(inverse, mul(weak, exp(sofar)), false),
    scores: mul<Tensor3D>(batchedProduct(queries, keys, true), between),
    query: mul<Tensor3D>(queries, exp(sofar)),
    key: mul<Tensor3D>(keys, exp(sub(last, sofar))),
    left: exp<Tensor3D>(last),
  }
}

/** e^(decay from token j to token i) where j <= i, else 0: [N, length, length] from sums [N, length, 1]. */
function decayBetween(sofar: Tensor3D, length: number): Tensor3D {
  const seen = new Float32Array(length * length)
  for (let row = 0; row < length; row++) seen.fill(1, row * length, row * length + row + 1)
  const lower = tensor2d(seen, [length, length])
  const difference = sub(sofar, transpose(sofar, [0, 2, 1]))
  // Above the diagonal differences are positive and could overflow: they are taken off before the exponent.
  return mul(exp(mul(difference, lower)), lower)
}

/** Inverses of I + the part below the diagonal of each matrix of x [N, n, n], row by row in float64. */
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
