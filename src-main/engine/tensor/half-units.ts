import { activeBackend } from '#engine/backend/active.ts'
import type { HalfOperations } from '#engine/backend/halves.ts'
import { RuntimeHalves } from './runtime-halves.ts'

let ofRuntime: RuntimeHalves | undefined

/** How this machine multiplies 16-bit operands: our operations on the processor's units, the runtime's own products, or nothing. */
export function findHalfUnits(): HalfOperations | undefined {
  const { halves, halfProducts } = activeBackend()
  const products = halves ? undefined : halfProducts?.()
  if (!products) return halves
  if (ofRuntime?.products !== products) ofRuntime = new RuntimeHalves(products)
  return ofRuntime
}

/** The same. Throws if there are none, because such products must then not be requested. */
export function halfUnits(): HalfOperations {
  const found = findHalfUnits()
  if (!found) throw new Error('This device has no units for 16-bit operands.')
  return found
}
