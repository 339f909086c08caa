import { backend } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { Eigen } from './eigen.ts'

/** Numbers of TensorFlow's types and attribute kinds. */
interface Binding {
  readonly TF_ATTR_TYPE: number
  readonly TF_ATTR_BOOL: number
  createTensor(shape: readonly number[], dtype: number, values: Int32Array): number
  executeOp(name: string, attributes: readonly object[], inputs: readonly number[], outputs: number): { readonly id: number }[]
  tensorDataSync(id: number): Int32Array
  deleteTensor(id: number): void
}

const double = 2
const int32 = 3

/** Whether the runtime has an eigenvalue solver in float64. */
export const hasRuntimeEigen = (): boolean => activeBackend().name.startsWith('tensorflow')

/**
 * Eigenvalues and eigenvectors of a symmetric matrix [size, size] in float64 by TensorFlow, about a hundred times faster than
 * `symmetricEigen` at 1024. tfjs-core knows no float64, so bytes travel as pairs of int32.
 */
export function runtimeEigen(matrix: Float64Array, size: number): Eigen {
  const { binding } = backend() as unknown as { binding: Binding }
  const type = (name: string, value: number) => ({ name, type: binding.TF_ATTR_TYPE, value })
  const handles: number[] = []
  const run = (name: string, attributes: readonly object[], input: number, outputs: number): number[] => {
    const ids = binding.executeOp(name, attributes, [input], outputs).map(({ id }) => id)
    handles.push(...ids)
    return ids
  }
  const read = (id: number): Float64Array => {
    const [words] = run('Bitcast', [type('T', double), type('type', int32)], id, 1)
    const values = binding.tensorDataSync(words ?? id)
    return new Float64Array(values.slice().buffer)
  }
  try {
    const words = binding.createTensor([size, size, 2], int32, new Int32Array(matrix.buffer, matrix.byteOffset, 2 * matrix.length))
    handles.push(words)
    const [doubles] = run('Bitcast', [type('T', int32), type('type', double)], words, 1)
    const [values, vectors] = run(
      'SelfAdjointEigV2',
      [{ name: 'compute_v', type: binding.TF_ATTR_BOOL, value: true }, type('T', double)],
      doubles ?? words,
      2,
    )
    return descending(read(values ?? words), read(vectors ?? words), size)
  } finally {
    for (const id of handles) binding.deleteTensor(id)
  }
}

/** TensorFlow gives ascending values and vectors in columns. */
function descending(values: Float64Array, columns: Float64Array, size: number): Eigen {
  const vectors = new Float64Array(size * size)
  for (let row = 0; row < size; row++) {
    for (let i = 0; i < size; i++) vectors[row * size + i] = columns[i * size + (size - 1 - row)] ?? 0
  }
  return { values: values.toReversed(), vectors }
}
