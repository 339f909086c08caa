import { type Tensor, tidy } from '@tensorflow/tfjs-core'

/**
 * Returns the values of the float32 tensor that `compute` returns, and releases all tensors that it created. Use this instead of returning
 * an array from `tidy`, which would look for tensors in every element (0.2 microseconds each).
 */
export function valuesOf(compute: () => Tensor): Float32Array {
  const result = tidy(compute)
  const values = result.dataSync() as Float32Array
  result.dispose()
  return values
}
