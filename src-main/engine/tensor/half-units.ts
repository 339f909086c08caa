import { activeBackend } from '#engine/backend/active.ts'
import type { HalfOperations } from '#engine/backend/halves.ts'
import { RuntimeHalves } from './runtime-halves.ts'

let ofRuntime: RuntimeHalves | undefined

/**
 * The operations on 16-bit operands of this machine: ours on the processor's units, or some built from the runtime's own products.
 * Undefined if there are none.
 */
export function findHalfUnits(): HalfOperations | undefined {
  const { halves, halfProducts } = activeBackend()
  const products = halves ? undefined : halfProducts?.()
  if (!products) return halves
  if (ofRuntime?.products !== products) ofRuntime = new RuntimeHalves(products)
  return ofRuntime
}

/** The same operations. Throws if there are none, because nothing should request such products then. */
export function halfUnits(): HalfOperations {
  const found = findHalfUnits()
  if (!found) throw new Error('This device has no units for 16-bit operands.')
  return found
}
