import { afterAll, beforeAll } from 'vitest'
import { activeBackend, type Backend, setActiveBackend } from '#engine/backend/active.ts'
import type { HalfType } from '#engine/backend/halves.ts'
import { HalfProducts } from '#engine/backend/tensorflow.ts'

/**
 * The open backend as it would be on a GPU, but computing on this processor: without our own operations, with 16-bit products by
 * TensorFlow.
 */
export function asOnGpu(type: HalfType): Backend {
  const { fused: _, halves: _own, ...plain } = activeBackend()
  const products = new HalfProducts(type)
  return { ...plain, halfProducts: () => products }
}

/** Makes the tests of the enclosing `describe` use that backend. */
export function computeWith(backend: Backend): void {
  const before = activeBackend()
  beforeAll(() => setActiveBackend(backend))
  afterAll(() => setActiveBackend(before))
}
