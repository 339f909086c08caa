import { join } from 'node:path'
import { app } from 'electron'
import type { ClosableDoor } from './door-switch.ts'

/** Opens the workbench in this process. Imported on demand, so that a window attached elsewhere opens no local history. */
export async function openLocalWorkbench(): Promise<ClosableDoor> {
  const { openWorkbench } = await import('#services/workbench.ts')
  return openWorkbench(app.isPackaged ? { computeCommand: packedComputeCommand() } : {})
}

/** Plain Node cannot read the packed archive, and fuses keep Electron from running as Node, so both are outside the archive. */
function packedComputeCommand(): [string, string] {
  const node = join(process.resourcesPath, 'node', process.platform === 'win32' ? 'node.exe' : 'node')
  return [node, join(process.resourcesPath, 'compute', 'out', 'main', 'compute.js')]
}
