import { openOpenblas } from './openblas.ts'
import { type Algebra, ownAlgebra } from './own.ts'

let chosen: Algebra | undefined

/** OpenBLAS if setup could install it, otherwise our own code, which is slow above some hundred columns. */
export function algebra(): Algebra {
  chosen ??= openOpenblas() ?? ownAlgebra
  return chosen
}
