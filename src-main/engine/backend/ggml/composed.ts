import type { Tensor, Tensor2D, TensorInfo } from '@tensorflow/tfjs-core'
import type { AttentionShape } from '#engine/backend/bf16-ops.ts'
import type { FusedOperations } from '#engine/backend/fused.ts'
import type { Operations } from './device.ts'
import type { Address } from './functions.ts'
import { largestOf } from './plain-kernels.ts'
import type { GgmlTensors, Seen } from './tensors.ts'

/** The most logits of a row among which its maximum is searched, because ggml searches on one thread. */
const sampledLogits = 64

type Composed = Pick<FusedOperations, 'normalize' | 'gate' | 'exponents'> & Pick<Partial<FusedOperations>, 'attention'>

/** Returns the fused operations of the decoder that are each built from a few of ggml's operations. */
export function composedOperations(tensors: GgmlTensors, isGpu: boolean): Composed {
  const { operations } = tensors
  const asTensor = (made: TensorInfo) => tensors.tensorOf(made) as Tensor2D
  return {
    // Left out on a GPU. On llvmpipe, ggml's attention for Vulkan is correct and 1.5 times as fast, but its shaders take 10 to 30 s to
    // compile. It was not tried on a real GPU.
    ...(isGpu ? {} : { attention: attentionOf(tensors) }),
    normalize(x, weight, bias, { epsilon, divisor, centred }) {
      // ggml divides the sum of squares by the width. For another divisor, epsilon is multiplied by this ratio and the result by its root.
      const ratio = divisor / x.shape[1]
      const others = [weight, bias].filter((tensor): tensor is Tensor => tensor !== undefined)
      const made = tensors.make(x.shape, [x, ...others], ([input = 0, ...more]) => {
        const rows = operations[centred ? 'norm' : 'rmsNorm'](input, epsilon * ratio)
        let result = ratio === 1 ? rows : operations.scale(rows, Math.sqrt(ratio), 0)
        if (weight) result = operations.multiply(result, more[0] as Address)
        return bias ? operations.add(result, more.at(-1) as Address) : result
      })
      return asTensor(made)
    },
    gate: (gate, up) => asTensor(tensors.make(gate.shape, [gate, up], ([a = 0, b = 0]) => operations.gate(a, b))),
    exponents(logits) {
      const step = Math.ceil(logits.shape[1] / sampledLogits)
      const made = exponentsOf(tensors, logits, step)
      // If all sampled logits of a row are far below its maximum, their softmax underflows to zero and the sum overflows. Then the maximum
      // is searched among all logits.
      if ((tensors.readSync(made.dataId) as Float32Array).every((number) => Math.abs(number) < 1e30)) return asTensor(made)
      tensors.disposeData(made.dataId)
      return asTensor(exponentsOf(tensors, logits, 1))
    },
  }
}

/** Returns for each row of logits [N, V] the maximum m of every `step`-th logit, and the sum of e^(logit - m) over all logits: [N, 2]. */
function exponentsOf(tensors: GgmlTensors, { dataId, shape: [rows, width] }: Tensor2D, step: number): TensorInfo {
  const { softmax, contiguous, view, reshape, divide, scale, concat } = tensors.operations
  const count = Math.ceil(width / step)
  return tensors.make([rows, 2], [{ dataId, shape: [rows, width] }], ([input = 0]) => {
    const largest = (x: Address) => {
      const sampled = contiguous(view(x, 1, count, rows, 1, 4 * step, 4 * width, 4 * width * rows, 0))
      return largestOf(tensors.operations, reshape(sampled, count, rows, 1, 1), count)
    }
    // The softmax of logit m is 1 / sum of e^(logit - m), so its reciprocal is the sum. `scale(x, 0, 1)` makes a tensor of ones.
    const probability = largest(softmax(input, 0, 1, 0))
    return concat(largest(input), divide(scale(probability, 0, 1), probability), 0)
  })
}

/** Queries per operation. The operation reads the mask of every key that it is given, so it is given only keys that its queries see. */
const rowsAtOnce = 512

/** The first row of the last operation when `tokens` rows are divided among operations. */
const lastRow = (tokens: number): number => rowsAtOnce * Math.floor((tokens - 1) / rowsAtOnce)

/** The first key that the query in row `row` sees. */
const firstSeen = (row: number, window: number): number => (window ? Math.max(0, row - window + 1) : 0)

/** Rotary embedding, and causal attention by ggml's own operation, in float32. The operation stores no scores. */
function attentionOf(tensors: GgmlTensors): FusedOperations['attention'] {
  const masks = new Masks(tensors)
  return (projected, cosine, sine, shape) => {
    const [tokens, half] = cosine.shape
    const all = shape.heads + 2 * shape.keyValueHeads
    const [batch, size] = [projected.shape[0] / tokens, projected.shape[1] / all]
    const heads = new Heads(tensors.operations, { ...shape, tokens, batch, size, half })
    const table = ({ dataId }: Tensor2D) => ({ dataId, shape: [tokens, 1, half] })
    const made = tensors.make(
      [batch * tokens, shape.heads * size],
      [{ ...projected, shape: [batch, tokens, all, size] }, table(cosine), table(sine), masks.of(tokens, shape.window)],
      ([input = 0, cos = 0, sin = 0, mask = 0]) => heads.mix(input, heads.rotate(input, cos, sin), mask),
      2 * batch * shape.heads * tokens * tokens * size,
    )
    return tensors.tensorOf(made) as Tensor2D
  }
}

interface HeadSizes extends AttentionShape {
  readonly tokens: number
  readonly batch: number
  /** The entries of a head, and half of the number of entries that are rotated. */
  readonly size: number
  readonly half: number
}

/** Operations on the heads of each token: tensors [size, heads, tokens, batch] in ggml's order. */
class Heads {
  readonly #operations: Operations
  readonly #sizes: HeadSizes

  constructor(operations: Operations, sizes: HeadSizes) {
    this.#operations = operations
    this.#sizes = sizes
  }

  /** Rotates the queries and keys of projections by their positions: [size, H + K, T, B]. */
  rotate(projected: Address, cosine: Address, sine: Address): Address {
    const { view, add, multiply, scale, concat } = this.#operations
    const { heads, keyValueHeads, tokens, batch, size, half } = this.#sizes
    const strides = [4 * size, 4 * size * (heads + 2 * keyValueHeads), 4 * size * (heads + 2 * keyValueHeads) * tokens]
    const part = (first: number, count: number) => view(projected, count, heads + keyValueHeads, tokens, batch, ...strides, 4 * first)
    const [one, other] = [part(0, half), part(half, half)]
    const firstHalf = add(multiply(one, cosine), multiply(other, scale(sine, -1, 0)))
    const rotated = concat(firstHalf, add(multiply(other, cosine), multiply(one, sine)), 0)
    return 2 * half === size ? rotated : concat(rotated, part(2 * half, size - 2 * half), 0)
  }

  /** Mixes the values of projections by attention of rotated queries and keys: [size, H, T, B]. */
  mix(projected: Address, rotated: Address, mask: Address): Address {
    const { tokens } = this.#sizes
    let mixed = this.#mixRows(projected, rotated, mask, 0)
    for (let row = rowsAtOnce; row < tokens; row += rowsAtOnce)
      mixed = this.#operations.concat(mixed, this.#mixRows(projected, rotated, mask, row), 2)
    return mixed
  }

  #mixRows(projected: Address, rotated: Address, mask: Address, row: number): Address {
    const { contiguous, view, attention } = this.#operations
    const { heads, keyValueHeads, tokens, window, cap = 0 } = this.#sizes
    const rows = Math.min(rowsAtOnce, tokens - row)
    const first = firstSeen(row, window)
    const seen = row + rows - first
    const rotatedHeads = heads + keyValueHeads
    const query = this.#rows(rotated, rotatedHeads, 0, heads, row, rows)
    const key = this.#rows(rotated, rotatedHeads, heads, keyValueHeads, first, seen)
    const value = this.#rows(projected, rotatedHeads + keyValueHeads, rotatedHeads, keyValueHeads, first, seen)
    const before = lastRow(tokens) - row + first
    const stride = 2 * widthOf(tokens)
    const hidden = contiguous(view(mask, seen, rows, 1, 1, stride, stride, stride, 2 * before))
    return attention(query, key, value, hidden, 1, 0, cap)
  }

  /** Selects `rows` rows, from `row` on, of `count` heads, from `head` on, of a tensor with `heads` heads: [size, rows, count, B]. */
  #rows(x: Address, heads: number, head: number, count: number, row: number, rows: number): Address {
    const { view, permute } = this.#operations
    const { tokens, batch, size } = this.#sizes
    const stride = 4 * size * heads
    return permute(view(x, size, count, rows, batch, 4 * size, stride, stride * tokens, row * stride + 4 * size * head), 0, 2, 1, 3)
  }
}

/** The mask's values in float16: 0 for a key that is seen, minus infinity for a hidden one. */
const [seen, hidden] = [0, 0xfc00]

/** The width of the mask: all keys before the last operation's first query, and one key per query of a full operation. */
const widthOf = (tokens: number): number => lastRow(tokens) + Math.min(rowsAtOnce, tokens)

/**
 * Makes the mask that is added to the scores of the last operation's queries, in float16, the type that the operation reads. Earlier
 * operations have fewer keys before their queries, so they use the last columns of the same mask. The most recent mask is kept.
 */
class Masks {
  readonly #tensors: GgmlTensors
  #last: { readonly tokens: number; readonly window: number; readonly mask: Seen } | undefined

  constructor(tensors: GgmlTensors) {
    this.#tensors = tensors
  }

  /** The mask for this many tokens. `window` is how many positions a query sees, 0 for all. */
  of(tokens: number, window: number): Seen {
    if (this.#last?.tokens === tokens && this.#last.window === window) return this.#last.mask
    if (this.#last) this.#tensors.disposeData(this.#last.mask.dataId)
    const [rows, width] = [Math.min(rowsAtOnce, tokens), widthOf(tokens)]
    const values = new Uint16Array(rows * width).fill(hidden)
    for (let row = 0; row < rows; row++) {
      const position = lastRow(tokens) + row
      values.fill(seen, row * width + firstSeen(position, window), row * width + position + 1)
    }
    const mask = { ...this.#tensors.writeStored(new Uint8Array(values.buffer), 'float16'), shape: [rows, width] }
    this.#last = { tokens, window, mask }
    return mask
  }
}
