import type { TensorInfo } from '@tensorflow/tfjs-core'
import type { Build } from '../graph.ts'
import { elements } from '../sizes.ts'
import type { Seen } from '../tensors.ts'
import { inputOf, type KernelCall, type Kernels } from './kernel.ts'

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

export const products: Kernels = { BatchMatMul: product }
