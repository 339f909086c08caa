import { join } from 'node:path'
import { app } from 'electron'
import type { ClosableDoor } from './door-switch.ts'

/** The workbench in this process. Loaded on demand: a window attached elsewhere opens no local history. */
export async function openLocalWorkbench(): Promise<ClosableDoor> {
  const { openWorkbench } = await import('#services/workbench.ts')
  return openWorkbench(app.isPackaged ? { computeCommand: packedComputeCommand() } : {})
}

/** Plain Node cannot read the packed archive, and fuses forbid Electron to run as Node, so Node and the script are outside the archive. */
function packedComputeCommand(): [string, string] {
  const node = join(process.resourcesPath, 'node', process.platform === 'win32' ? 'node.exe' : 'node')
  return [node, join(process.resourcesPath, 'compute', 'out', 'main', 'compute.js')]
}
