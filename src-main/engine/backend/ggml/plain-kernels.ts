import { createRequire } from 'node:module'
import type { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu'
import { getKernelsForBackend, type NamedAttrMap, type NamedTensorInfoMap, registerKernel, type TensorInfo } from '@tensorflow/tfjs-core'
import type { Operations } from './device.ts'
import { type Address, elements, sizesOf } from './functions.ts'
import { type Build, mostOperations } from './graph.ts'
import type { GgmlTensors, Seen } from './tensors.ts'

/** A call of an operation of tfjs-core. */
interface KernelCall {
  readonly inputs: NamedTensorInfoMap
  readonly attrs: NamedAttrMap
  readonly tensors: GgmlTensors
}

/** Computes a call with ggml. Returns undefined if ggml cannot, so that the plain kernel computes it in JavaScript. */
type Kernel = (call: KernelCall) => TensorInfo | TensorInfo[] | undefined

/** Kernels by their names in tfjs-core. */
type Kernels = Readonly<Record<string, Kernel>>

/** Returns an input of a call. Throws if it is missing. */
function inputOf({ inputs }: KernelCall, name: string): TensorInfo {
  const input = inputs[name]
  if (!input) throw new TypeError(`The operation has no input ${name}.`)
  return input
}

/** Returns all inputs of a call, in order. */
const inputsOf = ({ inputs }: KernelCall): TensorInfo[] => Object.values(inputs).filter((input) => input !== undefined)

/** Returns axes in ascending order, with negative ones counted from the front; all axes if none are given. */
function axesOf(axis: unknown, rank: number): number[] {
  const list = axis === undefined || axis === null ? Array.from({ length: rank }, (_, i) => i) : [axis].flat()
  return (list as number[]).map((one) => (one < 0 ? one + rank : one)).sort((a, b) => a - b)
}

/**
 * Two shapes for an operation that repeats each input along dimensions where its size is one. Adjacent dimensions that are treated alike
 * are merged.
 */
interface JoinedShapes {
  /** The shape of the result, unmerged. */
  readonly whole: number[]
  /** The merged shape of the result, with at most four dimensions; `a` and `b` are the inputs' shapes in the same number of dimensions. */
  readonly shape: number[]
  readonly a: number[]
  readonly b: number[]
}

/** Joins the shapes of two inputs. Undefined if they do not fit, if the result is empty, or if more than four dimensions remain. */
function joinedShapes(a: readonly number[], b: readonly number[]): JoinedShapes | undefined {
  const rank = Math.max(a.length, b.length)
  const padded = (shape: readonly number[]) => [...Array<number>(rank - shape.length).fill(1), ...shape]
  const [first, second] = [padded(a), padded(b)]
  const joined: { a: number; b: number; kind: string }[] = []
  for (const [i, one] of first.entries()) {
    const other = second[i] as number
    if (one !== other && one !== 1 && other !== 1) return undefined
    if (one === 1 && other === 1) continue
    const kind = one === other ? 'both' : one === 1 ? 'second' : 'first'
    const last = joined.at(-1)
    if (last?.kind === kind) Object.assign(last, { a: last.a * one, b: last.b * other })
    else joined.push({ a: one, b: other, kind })
  }
  const found = { a: joined.map((one) => one.a), b: joined.map((one) => one.b) }
  const shape = joined.map((one) => Math.max(one.a, one.b))
  const whole = first.map((one, i) => (one === 1 ? (second[i] as number) : one))
  return joined.length > 4 || elements(shape) === 0 ? undefined : { whole, shape, ...found }
}

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

const elementwise: Kernels = {
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

/** Selects entries of x along an axis. Checks the indices, because ggml would end the process for a wrong one. */
function gather(call: KernelCall): TensorInfo | undefined {
  const [x, indices] = [inputOf(call, 'x'), inputOf(call, 'indices')]
  const { axis, batchDims } = call.attrs as { axis: number; batchDims: number }
  const [length = 0, count] = [x.shape[axis], elements(indices.shape)]
  const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)]
  if (x.dtype !== 'float32' || batchDims !== 0 || elements(shape) === 0) return undefined
  const chosen = call.tensors.readSync(indices.dataId) as Int32Array
  const wrong = chosen.find((one) => one < 0 || one >= length)
  if (wrong !== undefined) throw new RangeError(`index ${wrong} is not among ${length} entries`)
  const [outer, inner] = [elements(x.shape.slice(0, axis)), elements(x.shape.slice(axis + 1))]
  const { operations } = call.tensors
  const turn = (input: number) => operations.contiguous(operations.permute(input, 1, 0, 2, 3))
  const flat = { ...indices, shape: [count] }
  if (outer === 1)
    return call.tensors.make(shape, [{ ...x, shape: [length, inner] }, flat], ([rows = 0, list = 0]) => operations.rows(rows, list))
  if (inner === 1)
    return call.tensors.make(shape, [{ ...x, shape: [outer, length] }, flat], ([input = 0, list = 0]) =>
      turn(operations.rows(turn(input), list)),
    )
  // ggml needs a list of indices for each outer entry.
  return call.tensors.make(shape, [{ ...x, shape: [outer, length, inner] }, flat], ([input = 0, list = 0]) =>
    operations.rows(input, operations.repeat(list, count, outer, 1, 1)),
  )
}

const gathers: Kernels = { GatherV2: gather }

/**
 * Multiplies a [.., M, C] by b [.., C, N], either of which may be stored transposed. Returns [.., M, N]. ggml multiplies rows by rows, so
 * it needs b transposed and a not transposed.
 */
function product(call: KernelCall): TensorInfo | undefined {
  const [a, b] = [inputOf(call, 'a'), inputOf(call, 'b')]
  const { transposeA, transposeB } = call.attrs as { transposeA: boolean; transposeB: boolean }
  const [left, right] = [matrices(a), matrices(b)]
  const batch = Math.max(left.shape[0], right.shape[0])
  const fits = [left, right].every(({ shape }) => shape[0] === batch || shape[0] === 1)
  const [rows, inner] = transposeA ? [left.shape[2], left.shape[1]] : [left.shape[1], left.shape[2]]
  const columns = right.shape[transposeB ? 1 : 2]
  // ggml repeats only one operand over a batch, which is b here.
  if (!fits || left.shape[0] < batch || batch * rows * inner * columns === 0) return undefined
  const { operations } = call.tensors
  const turn = (x: number) => operations.contiguous(operations.permute(x, 1, 0, 2, 3))
  const outer = (a.shape.length >= b.shape.length ? a : b).shape.slice(0, -2)
  if (elements(outer) !== batch) return undefined
  const missing = Math.min(rows, columns) < minimumRows ? 0 : -inner & (call.tensors.graph.device.fastDepth - 1)
  const fill = (x: number) => (missing === 0 ? x : operations.pad(x, 0, missing, 0, 0, 0, 0, 0, 0))
  const build: Build = ([x = 0, y = 0]) => operations.product(fill(transposeB ? y : turn(y)), fill(transposeA ? turn(x) : x))
  return call.tensors.make([...outer, rows, columns], [left, right], build, 2 * batch * rows * inner * columns)
}

/** If either side has fewer rows, copying it with zeros at the end of each row takes longer than it saves. */
const minimumRows = 128

/** Views a tensor as a batch of matrices, whatever its outer dimensions are. */
function matrices({ dataId, shape }: TensorInfo): Seen & { readonly shape: [number, number, number] } {
  const [rows = 1, columns = 1] = shape.slice(-2)
  return { dataId, shape: [elements(shape.slice(0, -2)), rows, columns] }
}

const products: Kernels = { BatchMatMul: product }

/** Reduces each row to one number. `count` is the length of a row. */
type RowOperation = (operations: Operations, rows: Address, count: number) => Address

/** A kernel that reduces adjacent dimensions. */
const reduction =
  (compute: RowOperation, axisName: string): Kernel =>
  (call) => {
    const x = inputOf(call, 'x')
    const axes = axesOf(call.attrs[axisName], x.shape.length)
    const first = axes[0] ?? 0
    if (axes.length === 0 || axes.some((axis, i) => axis !== first + i) || elements(x.shape) === 0) return undefined
    const { operations } = call.tensors
    const end = first + axes.length
    const [outer, count, inner] = [x.shape.slice(0, first), x.shape.slice(first, end), x.shape.slice(end)].map(elements) as [
      number,
      number,
      number,
    ]
    const kept = x.shape.flatMap((size, axis) => (axes.includes(axis) ? (call.attrs.keepDims ? [1] : []) : [size]))
    if (inner === 1) {
      return call.tensors.make(kept, [{ ...x, shape: [outer, count] }], ([rows = 0]) => compute(operations, rows, count))
    }
    return call.tensors.make(kept, [{ ...x, shape: [outer, count, inner] }], ([input = 0]) =>
      compute(operations, operations.contiguous(operations.permute(input, 1, 0, 2, 3)), count),
    )
  }

/** `GGML_OP_POOL_MAX`. A pool as wide as a row returns its largest element. */
const maximumPool = 0

export const largestOf: RowOperation = ({ largest }, rows, count) => largest(rows, maximumPool, count, 1, count, 1, 0, 0)

function softmax(call: Parameters<Kernel>[0]): TensorInfo | undefined {
  const x = inputOf({ ...call, inputs: { x: call.inputs.logits as TensorInfo } }, 'x')
  const width = x.shape.at(-1) ?? 1
  if (elements(x.shape) === 0) return undefined
  const rows = [elements(x.shape) / width, width]
  return call.tensors.make(x.shape, [{ ...x, shape: rows }], ([input = 0]) => call.tensors.operations.softmax(input, 0, 1, 0))
}

const reductions: Kernels = {
  Sum: reduction(({ sumRows }, rows) => sumRows(rows), 'axis'),
  Mean: reduction(({ sumRows, scale }, rows, count) => scale(sumRows(rows), 1 / count, 0), 'axis'),
  Max: reduction(largestOf, 'reductionIndices'),
  Softmax: softmax,
  Cumsum(call) {
    const x = inputOf(call, 'x')
    const { axis, exclusive, reverse } = call.attrs as { axis: number; exclusive: boolean; reverse: boolean }
    const inner = elements(x.shape.slice(axis + 1))
    if (exclusive || reverse || inner !== 1 || elements(x.shape) === 0) return undefined
    const count = x.shape[axis] as number
    const rows = { ...x, shape: [elements(x.shape) / count, count] }
    return call.tensors.make(x.shape, [rows], ([input = 0]) => call.tensors.operations.cumulate(input))
  },
}

/** Copies a box out of a tensor of at most four dimensions: the entries from `begin` on, `size` of them along each axis (-1: the rest). */
function cut(tensors: GgmlTensors, x: TensorInfo, begin: readonly number[], size: readonly number[]): TensorInfo | undefined {
  const lengths = x.shape.map((length, axis) => ((size[axis] ?? -1) < 0 ? length - (begin[axis] ?? 0) : (size[axis] as number)))
  if (x.shape.length > 4 || elements(lengths) === 0) return undefined
  const strides = x.shape.map((_, axis) => 4 * elements(x.shape.slice(axis + 1)))
  const offset = strides.reduce((sum, stride, axis) => sum + stride * (begin[axis] ?? 0), 0)
  const whole = 4 * elements(x.shape)
  const [second = whole, third = whole, fourth = whole] = strides.slice(0, -1).toReversed()
  const { operations } = tensors
  return tensors.make(lengths, [x], ([input = 0]) =>
    operations.contiguous(operations.view(input, ...sizesOf(lengths), second, third, fourth, offset)),
  )
}

/** Concatenates tensors along an axis. */
function join(tensors: GgmlTensors, parts: readonly TensorInfo[], axis: number): TensorInfo | undefined {
  const filled = parts.filter(({ shape }) => elements(shape) > 0)
  const [first] = filled
  if (!first || filled.length > mostOperations) return undefined
  const [outer, inner] = [elements(first.shape.slice(0, axis)), elements(first.shape.slice(axis + 1))]
  const lengths = filled.map(({ shape }) => shape[axis] as number)
  const shape = first.shape.with(axis, elementsSum(lengths))
  if (filled.length === 1) return tensors.share(first, shape)
  const seen = filled.map((part, i) => ({ ...part, shape: [outer, lengths[i] as number, inner] }))
  const pair = (all: readonly Address[]): Address => {
    if (all.length === 1) return all[0] as Address
    const middle = Math.ceil(all.length / 2)
    return tensors.operations.concat(pair(all.slice(0, middle)), pair(all.slice(middle)), 1)
  }
  return tensors.make(shape, seen, pair)
}

const elementsSum = (lengths: readonly number[]): number => lengths.reduce((sum, length) => sum + length, 0)

/** Splits a tensor into pieces of the given lengths along an axis. */
function split(tensors: GgmlTensors, x: TensorInfo, axis: number, lengths: readonly number[]): (TensorInfo | undefined)[] {
  let first = 0
  return lengths.map((length) => {
    const begin = x.shape.map((_, other) => (other === axis ? first : 0))
    first += length
    return cut(tensors, x, begin, x.shape.with(axis, length))
  })
}

function transpose(call: KernelCall): TensorInfo | undefined {
  const x = inputOf(call, 'x')
  const { perm } = call.attrs as { perm: number[] }
  const rank = x.shape.length
  const shape = perm.map((axis) => x.shape[axis] as number)
  const moved = perm.filter((axis) => x.shape[axis] !== 1)
  if (moved.every((axis, i) => i === 0 || axis > (moved[i - 1] as number))) return call.tensors.share(x, shape)
  if (rank > 4 || elements(shape) === 0) return undefined
  const target = [0, 1, 2, 3].map((place) => (place < rank ? rank - 1 - perm.indexOf(rank - 1 - place) : place))
  const { operations } = call.tensors
  return call.tensors.make(shape, [x], ([input = 0]) => operations.contiguous(operations.permute(input, ...target)))
}

/** Returns all pieces, or undefined if one of them is undefined because it could not be cut. */
function allOf(pieces: readonly (TensorInfo | undefined)[]): TensorInfo[] | undefined {
  const found = pieces.filter((piece) => piece !== undefined)
  return found.length === pieces.length ? found : undefined
}

const shapes: Kernels = {
  Identity: (call) => call.tensors.share(inputOf(call, 'x')),
  Reshape(call) {
    const x = inputOf(call, 'x')
    const wanted = call.attrs.shape as number[]
    const known = elements(wanted.filter((size) => size >= 0))
    return call.tensors.share(
      x,
      wanted.map((size) => (size < 0 ? elements(x.shape) / known : size)),
    )
  },
  Transpose: transpose,
  Slice: (call) => cut(call.tensors, inputOf(call, 'x'), call.attrs.begin as number[], call.attrs.size as number[]),
  Concat(call) {
    const parts = inputsOf(call)
    const axis = call.attrs.axis as number
    return join(call.tensors, parts, axis < 0 ? axis + (parts[0]?.shape.length ?? 0) : axis)
  },
  Pack(call) {
    const axis = call.attrs.axis as number
    return join(
      call.tensors,
      inputsOf(call).map((part) => ({ ...part, shape: part.shape.toSpliced(axis, 0, 1) })),
      axis,
    )
  },
  Unpack(call) {
    const value = inputOf(call, 'value')
    const axis = call.attrs.axis as number
    const pieces = allOf(split(call.tensors, value, axis, Array<number>(value.shape[axis] ?? 0).fill(1)))
    return pieces?.map((piece) => ({ ...piece, shape: piece.shape.toSpliced(axis, 1) }))
  },
  SplitV(call) {
    const x = inputOf(call, 'x')
    const { axis, numOrSizeSplits } = call.attrs as { axis: number; numOrSizeSplits: number | number[] }
    const along = axis < 0 ? axis + x.shape.length : axis
    const lengths =
      typeof numOrSizeSplits === 'number' ? Array<number>(numOrSizeSplits).fill((x.shape[along] ?? 0) / numOrSizeSplits) : numOrSizeSplits
    return lengths.some((length) => length < 0) ? undefined : allOf(split(call.tensors, x, along, lengths))
  },
  Tile(call) {
    const x = inputOf(call, 'x')
    const shape = x.shape.map((size, axis) => size * ((call.attrs.reps as number[])[axis] ?? 1))
    if (shape.length > 4 || elements(shape) === 0) return undefined
    return call.tensors.make(shape, [x], ([input = 0]) => call.tensors.operations.repeat(input, ...sizesOf(shape)))
  },
  PadV2(call) {
    const x = inputOf(call, 'x')
    const { paddings, constantValue } = call.attrs as { paddings: [number, number][]; constantValue: number }
    if (constantValue !== 0 || x.shape.length > 4 || elements(x.shape) === 0) return undefined
    const shape = x.shape.map((size, axis) => elementsSum(paddings[axis] ?? []) + size)
    const around = [0, 1, 2, 3].flatMap((place) => paddings.toReversed()[place] ?? [0, 0])
    return call.tensors.make(shape, [x], ([input = 0]) => call.tensors.operations.pad(input, ...around))
  },
}

const kernels: Kernels = { ...elementwise, ...gathers, ...products, ...reductions, ...shapes }

/** Operations that may have inputs of any type: they only move values, or take indices. */
const anyType = ['Identity', 'Reshape', 'GatherV2']

/** Counts how often each operation was computed by its plain kernel, in JavaScript. */
export const plainCalls = new Map<string, number>()

/** Registers every operation of tfjs-core for a backend. A call is computed by ggml if possible, otherwise in JavaScript. */
export function registerKernels(backendName: string): void {
  const load = createRequire(import.meta.url)
  const { MathBackendCPU: Plain } = load('@tensorflow/tfjs-backend-cpu') as { MathBackendCPU: new () => MathBackendCPU }
  const plain = new Plain()
  Object.assign(plain, { firstUse: false })
  for (const { kernelName, kernelFunc } of getKernelsForBackend('cpu')) {
    registerKernel({
      kernelName,
      backendName,
      kernelFunc({ inputs, attrs = {}, backend }) {
        const call: KernelCall = { inputs, attrs, tensors: backend as GgmlTensors }
        const numbers = anyType.includes(kernelName) || inputsOf(call).every(({ dtype }) => dtype === 'float32')
        const made = numbers ? kernels[kernelName]?.(call) : undefined
        if (made) return made
        plainCalls.set(kernelName, (plainCalls.get(kernelName) ?? 0) + 1)
        return runPlainly(plain, call, (copies) => kernelFunc({ inputs: copies, attrs, backend: plain }))
      },
    })
  }
}

/** Computes a call in this process on copies of its inputs, and writes the results back to the device. */
function runPlainly(
  plain: MathBackendCPU,
  { inputs, tensors }: KernelCall,
  run: (inputs: KernelCall['inputs']) => TensorInfo | TensorInfo[],
): TensorInfo | TensorInfo[] {
  const copied = Object.entries(inputs).map(([name, input]) => {
    const { dataId, shape, dtype } = input as TensorInfo
    return [name, plain.makeTensorInfo(shape, dtype, tensors.readSync(dataId) as Float32Array)] as const
  })
  // Operations that take a list of tensors expect an array.
  const result = run(Array.isArray(inputs) ? (copied.map(([, copy]) => copy) as never) : Object.fromEntries(copied))
  const back = [result]
    .flat()
    .map(({ dataId, shape, dtype }) => ({ dataId: tensors.write(plain.readSync(dataId), shape, dtype), shape, dtype }))
  for (const { dataId } of [...copied.map(([, copy]) => copy), ...[result].flat()]) plain.disposeData(dataId, true)
  return Array.isArray(result) ? back : (back[0] as TensorInfo)
}
