import type { TensorInfo } from '@tensorflow/tfjs-core'
import { elements } from '../sizes.ts'
import { inputOf, type KernelCall, type Kernels } from './kernel.ts'

/** Entries of x along an axis, by indices that are checked here, because ggml would end the process. */
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
  const turn = (own: number) => operations.contiguous(operations.permute(own, 1, 0, 2, 3))
  const flat = { ...indices, shape: [count] }
  if (outer === 1)
    return call.tensors.make(shape, [{ ...x, shape: [length, inner] }, flat], ([rows = 0, own = 0]) => operations.rows(rows, own))
  if (inner === 1)
    return call.tensors.make(shape, [{ ...x, shape: [outer, length] }, flat], ([own = 0, places = 0]) =>
      turn(operations.rows(turn(own), places)),
    )
  // Each outer entry has its own list.
  return call.tensors.make(shape, [{ ...x, shape: [outer, length, inner] }, flat], ([own = 0, places = 0]) =>
    operations.rows(own, operations.repeat(places, count, outer, 1, 1)),
  )
}

export const gathers: Kernels = { GatherV2: gather }
