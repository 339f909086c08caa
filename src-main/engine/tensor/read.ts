import { type Tensor, tidy } from '@tensorflow/tfjs-core'

/**
 * The values of a float32 tensor that `compute` returns. All tensors it created are released. (`tidy` must not return an array, because it
 * would look for tensors in every element, 0.2 microseconds each.)
 */
export function valuesOf(compute: () => Tensor): Float32Array {
  const result = tidy(compute)
  const values = result.dataSync() as Float32Array
  result.dispose()
  return values
}
