import type { TensorInfo } from '@tensorflow/tfjs-core'
import type { Operations } from '../device.ts'
import type { Address } from '../functions.ts'
import { elements, sizesOf } from '../sizes.ts'
import { joinedShapes } from './joined-shapes.ts'
import { inputOf, type Kernel, type KernelCall, type Kernels } from './kernel.ts'

/** A kernel that computes each element by itself. */
const each =
  (compute: (operations: Operations, x: Address) => Address): Kernel =>
  (call) => {
    const x = inputOf(call, 'x')
    const { tensors } = call
    return tensors.make(x.shape, [{ ...x, shape: [elements(x.shape)] }], ([input = 0]) => compute(tensors.operations, input))
  }

/** Computes erf from ggml's gelu(z) = z / 2 (1 + erf(z / sqrt 2)). Adding 1e-20 to z avoids 0 / 0 and is far below rounding. */
function errorFunction({ scale, gelu, divide }: Operations, x: Address): Address {
  const z = scale(x, Math.SQRT2, 1e-20)
  return scale(divide(gelu(z), z), 2, -1)
}

/**
 * Computes log(1 + e^x). ggml's own version loses an e^x that is small compared with 1. With u = e^-|x| and w = 1 + u, rounded,
 * log(w) u / (w - 1) keeps it.
 */
function softplus({ relu, absolute, exponential, scale, logarithm, multiply, divide, add }: Operations, x: Address): Address {
  const u = exponential(scale(absolute(x), -1, 0))
  const w = scale(u, 1, 1)
  const tiny = 1e-20
  return add(relu(x), multiply(u, divide(scale(logarithm(w), 1, tiny), scale(scale(w, 1, -1), 1, tiny))))
}

type Pair = (operations: Operations, a: Address, b: Address) => Address

/**
 * A kernel that computes pairs of elements, and repeats the smaller input where shapes differ. `swaps` means that the operands may be
 * exchanged. `withNumber` handles calls in which one input is a single number.
 */
const pairwise =
  (compute: Pair, swaps: boolean, withNumber?: (call: KernelCall, a: TensorInfo, b: TensorInfo) => TensorInfo | undefined): Kernel =>
  (call) => {
    const [a, b] = [inputOf(call, 'a'), inputOf(call, 'b')]
    const short = withNumber?.(call, a, b)
    if (short) return short
    const joined = joinedShapes(a.shape, b.shape)
    if (!joined) return undefined
    const { operations } = call.tensors
    const sizes = sizesOf(joined.shape)
    const count = elements(sizes)
    const inputs = [
      { ...a, shape: joined.a },
      { ...b, shape: joined.b },
    ]
    return call.tensors.make(joined.whole, inputs, ([first = 0, second = 0]) => {
      if (elements(joined.a) === count) return compute(operations, first, second)
      if (swaps && elements(joined.b) === count) return compute(operations, second, first)
      return compute(operations, operations.repeat(first, ...sizes), second)
    })
  }

/** Computes x * factor + bias if the other tensor is a single number, from which factor and bias are derived. */
const linear =
  (ofFirst: (number: number) => [factor: number, bias: number], ofSecond?: (number: number) => [factor: number, bias: number]) =>
  ({ tensors }: KernelCall, a: TensorInfo, b: TensorInfo): TensorInfo | undefined => {
    const apply = (x: TensorInfo, other: TensorInfo, numbers?: (number: number) => [number, number]) => {
      const number = tensors.scalar(other)
      if (number === undefined || !numbers || other.shape.length > x.shape.length) return undefined
      const flat = { ...x, shape: [elements(x.shape)] }
      return tensors.make(x.shape, [flat], ([input = 0]) => tensors.operations.scale(input, ...numbers(number)))
    }
    return apply(a, b, ofFirst) ?? apply(b, a, ofSecond)
  }

/** A kernel for the maximum (or minimum) of each element and a single number. */
const bounded =
  (range: (number: number) => [low: number, high: number]): Kernel =>
  ({ inputs: { a, b }, tensors }) => {
    if (!a || !b) return undefined
    const number = tensors.scalar(b)
    if (number === undefined) return undefined
    return tensors.make(a.shape, [{ ...a, shape: [elements(a.shape)] }], ([input = 0]) => tensors.operations.clamp(input, ...range(number)))
  }

export const elementwise: Kernels = {
  Abs: each(({ absolute }, x) => absolute(x)),
  Neg: each(({ negative }, x) => negative(x)),
  Exp: each(({ exponential }, x) => exponential(x)),
  Log: each(({ logarithm }, x) => logarithm(x)),
  Relu: each(({ relu }, x) => relu(x)),
  Sigmoid: each(({ sigmoid }, x) => sigmoid(x)),
  Softplus: each(softplus),
  Sqrt: each(({ squareRoot }, x) => squareRoot(x)),
  Square: each(({ square }, x) => square(x)),
  Step: each(({ step }, x) => step(x)),
  Tanh: each(({ tanh }, x) => tanh(x)),
  Erf: each(errorFunction),
  // ggml has no 1 / x, so use sqrt(x) / x.
  Rsqrt: each(({ squareRoot, divide }, x) => divide(squareRoot(x), x)),
  Add: pairwise(
    ({ add }, a, b) => add(a, b),
    true,
    linear(
      (n) => [1, n],
      (n) => [1, n],
    ),
  ),
  Multiply: pairwise(
    ({ multiply }, a, b) => multiply(a, b),
    true,
    linear(
      (n) => [n, 0],
      (n) => [n, 0],
    ),
  ),
  Sub: pairwise(
    ({ subtract }, a, b) => subtract(a, b),
    false,
    linear(
      (n) => [1, -n],
      (n) => [-1, n],
    ),
  ),
  RealDiv: pairwise(
    ({ divide }, a, b) => divide(a, b),
    false,
    linear((n) => [1 / n, 0]),
  ),
  Maximum: bounded((n) => [n, Number.POSITIVE_INFINITY]),
  Minimum: bounded((n) => [Number.NEGATIVE_INFINITY, n]),
}
