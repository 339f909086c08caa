import { tidy } from '@tensorflow/tfjs-core'

/** `tidy` for records of tensors: tensors in the result belong to the caller, all others are released. */
export function tidied<T extends object>(make: () => T): T {
  return tidy(make as never) as unknown as T
}
