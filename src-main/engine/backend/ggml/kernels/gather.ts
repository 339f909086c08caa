import type { TensorInfo } from '@tensorflow/tfjs-core'
import { elements } from '../sizes.ts'
import { inputOf, type KernelCall, type Kernels } from './kernel.ts'

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

export const gathers: Kernels = { GatherV2: gather }
