import type { Tensor } from '@tensorflow/tfjs-core'
import type { NativeBf16Ops, RuntimeProducts, SixteenBitType } from './bf16-ops.ts'
import type { FusedOperations } from './fused.ts'
import type { QuantisedType } from './ggml/quantised-types.ts'

/** What the rest of the engine may know about the active runtime. */
export interface Backend {
  readonly name: 'tensorflow-gpu' | 'tensorflow-cpu' | 'ggml-cpu' | 'ggml-gpu'
  /** One line for users: the runtime, its version, and the number of threads. */
  readonly title: string
  /** One or two sentences for users on why this runtime was chosen. */
  readonly reason: string
  /** Operations made for the decoder: all of ours if setup could compile them, or a few by ggml. Every caller also works without them. */
  readonly fused?: Partial<FusedOperations>
  /** Our own operations with 16-bit operands, if the processor has units for them. */
  readonly bf16?: NativeBf16Ops
  /** Returns the runtime's own products of 16-bit operands, or undefined if there are none or a known product came out wrong. */
  readonly runtimeProducts?: () => RuntimeProducts | undefined
  /**
   * Stores a weight on the device in its checkpoint's type. Returns undefined if the device cannot unpack this type, or would do so
   * wrongly.
   */
  readonly store?: (bytes: Uint8Array, type: StoredType) => StoredWeight | undefined
  /** Free bytes of the device's own memory when it was opened; undefined if it uses the machine's memory, or does not report this. */
  readonly deviceBytes?: number
}

/** A type in which checkpoints store weights in fewer bits than float32. */
export type StoredType = SixteenBitType | QuantisedType

/** A weight on a device in its checkpoint's type. Its owner must dispose of it. */
export interface StoredWeight {
  /** Whether it uses the bytes that it was made from in place. They must then stay in memory as long as it does. */
  readonly usesBytes: boolean
  /** Returns its values as a float32 tensor, which the caller disposes of. */
  unpack(shape: readonly number[]): Tensor
  dispose(): void
}

let active: Backend | undefined

export function setActiveBackend(backend: Backend): void {
  active = backend
}

/** `deviceBytes` of the active backend; undefined if it has no memory of its own, or if no backend is open. */
export const deviceBytes = (): number | undefined => active?.deviceBytes

/** The backend that `openBackend` chose. Throws if none was opened, which is a bug, not a user's mistake. */
export function activeBackend(): Backend {
  if (!active) throw new Error('No backend is open: call openBackend first.')
  return active
}
