import { type Tensor, tensor, tidy } from '@tensorflow/tfjs-core'
import { rawOperations } from '#engine/backend/raw-operations.ts'
import { type FloatDtype, fromFloat32, toFloat32 } from '#engine/checkpoint/dtypes.ts'

const names = { F16: 'float16', BF16: 'bfloat16' } as const

/** Rounds values to a dtype, to nearest with ties to even, and converts them back to float32. Returns a new tensor. */
export function roundTo<T extends Tensor>(x: T, dtype: FloatDtype): T {
  if (dtype === 'F32') return x.clone() as T
  const raw = rawOperations()
  if (!raw) return tidy(() => tensor(toFloat32(fromFloat32(x.dataSync() as Float32Array, dtype), dtype), x.shape) as T)
  const narrow = raw.cast(raw.of(x), 'float32', names[dtype])
  const rounded = raw.tensor(raw.cast(narrow, names[dtype], 'float32'), x.shape) as T
  raw.delete(narrow)
  return rounded
}
