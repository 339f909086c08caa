/** What the rest of the engine may know of the runtime that computes. */
export interface Backend {
  readonly name: 'tensorflow-gpu' | 'tensorflow-cpu' | 'webgpu' | 'wasm'
  /** One line for people: which runtime, which version, how many threads. */
  readonly title: string
  /** Why this one and not a faster one. */
  readonly reason: string
  /** Whether products with transposed matrices and of many small ones run at the rate of plain ones; where not, they are made plain. */
  readonly anyProducts: boolean
  /** Whether reading a small tensor costs no more than an operation: not where commands queue up for a device. */
  readonly readsAreCheap: boolean
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
