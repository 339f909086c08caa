import type { FusedOperations } from './fused.ts'

/** What the rest of the engine may know of the runtime that computes. */
export interface Backend {
  readonly name: 'tensorflow-gpu' | 'tensorflow-cpu' | 'webgpu' | 'wasm'
  /** One line for people: which runtime, which version, how many threads. */
  readonly title: string
  /** Why this one and not a faster one. */
  readonly reason: string
  /** Whether products with transposed matrices and of many small ones run at the rate of plain ones; where not, they are made plain. */
  readonly anyProducts: boolean
  /** Operations made for the decoder, where set-up could compile them; each caller knows how to do without. */
  readonly fused?: FusedOperations
}

let active: Backend | undefined

export function setActiveBackend(backend: Backend): void {
  active = backend
}

/** The backend that `openBackend` chose. Throws when none was opened: a programming error, not a user's. */
export function activeBackend(): Backend {
  if (!active) throw new Error('No backend is open: call openBackend first.')
  return active
}
