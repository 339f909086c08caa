import { join } from 'node:path'
import { app, type BrowserWindow, dialog, session } from 'electron'
import { toErrorMessage } from '#contract/errors.ts'
import { parseAddress } from '#server/address.ts'
import { openBridge } from './bridge.ts'
import { watchCrashes } from './crash-notices.ts'
import { DoorSwitch } from './door-switch.ts'
import { hardenSession } from './hardening.ts'
import { openLocalWorkbench } from './local-workbench.ts'
import { setMenu } from './menu.ts'
import { servePages } from './pages.ts'
import { watchRuns } from './run-notices.ts'
import { makeSecret, type Secret } from './secrets.ts'
import { openWindow } from './window.ts'

/** Opens the window on the local workbench, or on the server given by `--attach <line>` or remembered from last time. */
export async function startWindow(): Promise<void> {
  hardenSession(session.defaultSession)
  servePages(session.defaultSession, join(import.meta.dirname, '../renderer'))
  const attached = makeSecret(join(app.getPath('userData'), 'attached'))
  const door = new DoorSwitch(openLocalWorkbench)
  const failure = await attachBefore(door, attached)
  const window = openWindow(join(import.meta.dirname, '../preload/preload.cjs'))
  openBridge(door, window, attached)
  watchRuns(door, window)
  watchCrashes(app, window)
  setMenu(window)
  closeWithCare(door, window)
  if (failure)
    void dialog.showMessageBox(window, {
      type: 'warning',
      message: 'Not attached',
      detail: `${failure} The window shows this machine’s workbench.`,
    })
}

async function attachBefore(door: DoorSwitch, attached: Secret): Promise<string | undefined> {
  const line = app.commandLine.getSwitchValue('attach') || (await attached.get())
  if (!line) return undefined
  try {
    await door.attach(parseAddress(line))
    return undefined
  } catch (thrown) {
    return toErrorMessage(thrown).message
  }
}

/** Delays quitting until the workbench is closed, so that current runs become interrupted and can be resumed. */
function closeWithCare(door: DoorSwitch, window: BrowserWindow): void {
  let isClosed = false
  app.on('second-instance', () => {
    if (window.isMinimized()) window.restore()
    window.show()
    window.focus()
  })
  app.on('window-all-closed', () => app.quit())
  app.on('before-quit', (event) => {
    if (isClosed) return
    event.preventDefault()
    isClosed = true
    door
      .close()
      .catch(console.error)
      .finally(() => app.quit())
  })
}
