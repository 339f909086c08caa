import { tidy } from '@tensorflow/tfjs-core'

/** `tidy` for records of tensors: those in the result belong to the caller, all others that were made are given back. */
export function tidied<T extends object>(make: () => T): T {
  return tidy(make as never) as unknown as T
}
