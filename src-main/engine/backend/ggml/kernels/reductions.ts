import type { TensorInfo } from '@tensorflow/tfjs-core'
import type { Operations } from '../device.ts'
import type { Address } from '../functions.ts'
import { elements } from '../sizes.ts'
import { axesOf, inputOf, type Kernel, type Kernels } from './kernel.ts'

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

export const reductions: Kernels = {
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
