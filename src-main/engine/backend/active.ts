import type { Tensor } from '@tensorflow/tfjs-core'
import type { FusedOperations } from './fused.ts'
import type { QuantisedType } from './ggml/quantised-types.ts'
import type { HalfType, ProcessorHalves, RuntimeProducts } from './halves.ts'

/** What the rest of the engine may know about the active runtime. */
export interface Backend {
  readonly name: 'tensorflow-gpu' | 'tensorflow-cpu' | 'ggml-cpu' | 'ggml-gpu'
  /** One line for users: the runtime, its version, and the number of threads. */
  readonly title: string
  /** Why this runtime and not a faster one. */
  readonly reason: string
  /** Operations made for the decoder: all of ours if setup could compile them, some by ggml. Every caller works without them too. */
  readonly fused?: Partial<FusedOperations>
  /** Our products of 16-bit operands, if the processor has units for them. */
  readonly halves?: ProcessorHalves
  /** The runtime's own products of 16-bit operands; undefined if a known product came out wrong. */
  readonly halfProducts?: () => RuntimeProducts | undefined
  /** Stores weights on the device as a checkpoint does. Undefined for a type that the device would not unpack to the same values. */
  readonly store?: (bytes: Uint8Array, type: StoredType) => StoredWeight | undefined
  /** Free bytes of the device's own memory when it was opened; undefined if it computes in the machine's memory, or does not report it. */
  readonly deviceBytes?: number
}

/** How checkpoints store weights in fewer bits than float32. */
export type StoredType = HalfType | QuantisedType

/** A weight on a device as stored. Its owner must dispose of it. */
export interface StoredWeight {
  /** Whether it uses the bytes that it was made from, which must then live as long. */
  readonly usesBytes: boolean
  /** Its values in float32. */
  unpack(shape: readonly number[]): Tensor
  dispose(): void
}

let active: Backend | undefined

export function setActiveBackend(backend: Backend): void {
  active = backend
}

/** Free bytes of the device's own memory; undefined without such a device, and before a backend is open. */
export const deviceBytes = (): number | undefined => active?.deviceBytes

/** The backend that `openBackend` chose. Throws if none was opened, which is a bug, not a user's mistake. */
export function activeBackend(): Backend {
  if (!active) throw new Error('No backend is open: call openBackend first.')
  return active
}
