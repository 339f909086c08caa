import { afterAll, beforeAll } from 'vitest'
import { activeBackend, type Backend, setActiveBackend } from '#engine/backend/active.ts'
import type { HalfType } from '#engine/backend/halves.ts'

/** The open backend as it is on a GPU, over this processor: none of our operations, and 16-bit products by TensorFlow's own. */
export function asOnGpu(type: HalfType): Backend {
  const { fused: _, halves: _own, ...plain } = activeBackend()
  return { ...plain, halfType: type }
}

/** The tests of a block compute with that backend. */
export function computeWith(backend: Backend): void {
  const before = activeBackend()
  beforeAll(() => setActiveBackend(backend))
  afterAll(() => setActiveBackend(before))
}
