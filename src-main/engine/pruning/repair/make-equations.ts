import { rawOperations } from '#engine/backend/raw-operations.ts'
import type { NormalEquations } from './normal-equations.ts'
import { OwnEquations } from './own-equations.ts'
import { RuntimeEquations } from './runtime-equations.ts'

/** Equations for the active backend: in the runtime if it computes in float64, else here. */
export function makeEquations(): NormalEquations {
  const raw = rawOperations()
  return raw ? new RuntimeEquations(raw) : new OwnEquations()
}
