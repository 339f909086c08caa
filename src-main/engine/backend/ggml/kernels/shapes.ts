import type { TensorInfo } from '@tensorflow/tfjs-core'
import type { Address } from '../functions.ts'
import { mostOperations } from '../graph.ts'
import { elements, sizesOf } from '../sizes.ts'
import type { GgmlTensors } from '../tensors.ts'
import { inputOf, inputsOf, type KernelCall, type Kernels } from './kernel.ts'

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

export const shapes: Kernels = {
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
