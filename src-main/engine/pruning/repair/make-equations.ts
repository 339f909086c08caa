import { rawOperations } from '#engine/backend/raw-operations.ts'
import type { NormalEquations } from './normal-equations.ts'
import { OwnEquations } from './own-equations.ts'
import { RuntimeEquations } from './runtime-equations.ts'

/** Creates equations for the active backend. The runtime computes them if it has float64; otherwise this process does. */
export function makeEquations(): NormalEquations {
  const raw = rawOperations()
  return raw ? new RuntimeEquations(raw) : new OwnEquations()
}
