import { Tensor, tidy } from '@tensorflow/tfjs-core'

/** Runs `make` in `tidy` and returns its record of tensors, which belong to the caller. All other tensors are released. */
export function tidied<T extends object>(make: () => T): T {
  return tidy(make as never) as unknown as T
}

/** Copies a record of tensors, records and plain values. Every tensor in the copy is new, and belongs to the caller. */
export function cloneTensors<T>(record: T): T {
  if (record instanceof Tensor) return record.clone() as T
  if (typeof record !== 'object' || record === null) return record
  if (Array.isArray(record)) return record.map(cloneTensors<unknown>) as T
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, cloneTensors<unknown>(value)])) as T
}
