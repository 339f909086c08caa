import { Tensor } from '@tensorflow/tfjs-core'

/** A copy of a record of tensors, records and plain values, with new tensors. */
export function cloneTensors<T>(record: T): T {
  if (record instanceof Tensor) return record.clone() as T
  if (typeof record !== 'object' || record === null) return record
  if (Array.isArray(record)) return record.map(cloneTensors<unknown>) as T
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, cloneTensors<unknown>(value)])) as T
}
