import { join } from 'node:path'
import { app, dialog } from 'electron'
import type { Door } from '#server/door.ts'

export interface ClosableDoor extends Door {
  close(): Promise<void>
}

/** The workbench in this process. It opens while the page loads. Calls wait for it, and report why it could not be opened. */
export function openLocalWorkbench(): ClosableDoor {
  const closing = new AbortController()
  const opening = open(closing.signal)
  // Every call reports the failure, so it needs no report of its own.
  opening.catch(() => undefined)
  return {
    call: async (name, input, signal) => (await opening).call(name, input, signal),
    subscribe(listener) {
      const stopping = opening.then((workbench) => workbench.subscribe(listener))
      stopping.catch(() => undefined)
      return () => void stopping.then((stop) => stop()).catch(() => undefined)
    },
    async close() {
      // A workbench that still waits for its history would otherwise keep the window from closing.
      closing.abort()
      await (await opening.catch(() => undefined))?.close()
    },
  }
}

async function open(signal: AbortSignal): Promise<ClosableDoor> {
  const { openWorkbench } = await import('#services/workbench.ts')
  return openWorkbench({ mayBegin: askInDialog, signal, ...(app.isPackaged ? { computeCommand: packedComputeCommand() } : {}) })
}

async function askInDialog(question: string): Promise<boolean> {
  const { response } = await dialog.showMessageBox({
    type: 'warning',
    message: 'Begin a new history?',
    detail: question,
    buttons: ['Do not begin', 'Begin a new history'],
    defaultId: 0,
    cancelId: 0,
  })
  return response === 1
}

/** Plain Node cannot read the packed archive, and fuses keep Electron from running as Node, so both are outside the archive. */
function packedComputeCommand(): [string, string] {
  const node = join(process.resourcesPath, 'node', process.platform === 'win32' ? 'node.exe' : 'node')
  return [node, join(process.resourcesPath, 'compute', 'out', 'main', 'compute.js')]
}
