import type { ClosableDoor } from './door-switch.ts'

/** The workbench in this program. Loaded when first needed: a window attached elsewhere opens no history here. */
export async function openLocalWorkbench(): Promise<ClosableDoor> {
  const { openWorkbench } = await import('#services/workbench.ts')
  return openWorkbench({})
}
