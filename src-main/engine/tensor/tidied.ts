import { tidy } from '@tensorflow/tfjs-core'

/** Runs `make` in `tidy` and returns its record of tensors, which belong to the caller. All other tensors are released. */
export function tidied<T extends object>(make: () => T): T {
  return tidy(make as never) as unknown as T
}
