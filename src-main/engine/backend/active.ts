import type { FusedOperations } from './fused.ts'
import type { HalfType, ProcessorHalves } from './halves.ts'

/** What the rest of the engine may know of the runtime that computes. */
export interface Backend {
  readonly name: 'tensorflow-gpu' | 'tensorflow-cpu' | 'ggml-cpu' | 'ggml-gpu'
  /** One line for people: which runtime, which version, how many threads. */
  readonly title: string
  /** Why this one and not a faster one. */
  readonly reason: string
  /** Operations made for the decoder: all of ours if setup could compile them, some by ggml. Each caller works without them too. */
  readonly fused?: Partial<FusedOperations>
  /** Products of 16-bit operands by operations of ours, where the processor has units for them. */
  readonly halves?: ProcessorHalves
  /** The 16-bit type that the runtime's own products take, where these are there to be used: on a GPU with units for them. */
  readonly halfType?: HalfType
  /** Bytes of the device's own memory that were free when it was opened; undefined where it computes in the machine's, or does not say. */
  readonly deviceBytes?: number
}

let active: Backend | undefined

export function setActiveBackend(backend: Backend): void {
  active = backend
}

/** What was free of the device's own memory; undefined without such a device, and where no backend is open yet. */
export const deviceBytes = (): number | undefined => active?.deviceBytes

/** The backend that `openBackend` chose. Throws when none was opened: a programming error, not a user's. */
export function activeBackend(): Backend {
  if (!active) throw new Error('No backend is open: call openBackend first.')
  return active
}
