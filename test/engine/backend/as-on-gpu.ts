import { afterAll, beforeAll } from 'vitest'
import { activeBackend, type Backend, setActiveBackend } from '#engine/backend/active.ts'
import type { SixteenBitType } from '#engine/backend/bf16-ops.ts'
import { TensorflowProducts } from '#engine/backend/tensorflow.ts'

/**
 * The open backend as it would be on a GPU, but computing on this processor: without our own operations, with 16-bit products by
 * TensorFlow.
 */
export function asOnGpu(type: SixteenBitType): Backend {
  const { fused: _, bf16: _own, ...plain } = activeBackend()
  const products = new TensorflowProducts(type)
  return { ...plain, runtimeProducts: () => products }
}

/** Makes the tests of the enclosing `describe` use that backend. */
export function computeWith(backend: Backend): void {
  const before = activeBackend()
  beforeAll(() => setActiveBackend(backend))
  afterAll(() => setActiveBackend(before))
}
