import { join } from 'node:path'
import { app, type BrowserWindow, session } from 'electron'
import { openBridge } from './bridge.ts'
import { addContextMenus } from './context-menu.ts'
import { watchCrashes } from './crash-notices.ts'
import { hardenSession } from './hardening.ts'
import { type ClosableDoor, openLocalWorkbench } from './local-workbench.ts'
import { AppMenu } from './menu.ts'
import { readArguments } from './open-arguments.ts'
import { PageCommands } from './page-commands.ts'
import { servePages } from './pages.ts'
import { watchRuns } from './run-notices.ts'
import { askWhereToSave } from './save-files.ts'
import { openWindow, showWindow } from './window.ts'
import { StoredState } from './window-state.ts'

/** Opens the window and the workbench behind it. */
export function startWindow(): void {
  hardenSession(session.defaultSession)
  servePages(session.defaultSession, join(import.meta.dirname, '../renderer'))
  const stored = new StoredState(join(app.getPath('userData'), 'window.json'))
  const window = openWindow(join(import.meta.dirname, '../preload/preload.cjs'), stored)
  const door = openLocalWorkbench()
  openBridge(door, window, stored)
  const commands = new PageCommands(window)
  watchRuns(door, window, commands)
  watchCrashes(app, window)
  askWhereToSave(session.defaultSession, window, stored, commands)
  addContextMenus(window, commands)
  zoomByWheel(window)
  const menu = new AppMenu(window, commands, stored)
  menu.follow(door)
  openWhatIsAsked(window, menu)
  closeWithCare(door)
}

/** Zooms by the wheel of a mouse with Ctrl. Its side buttons go back and forward without our help. */
function zoomByWheel(window: BrowserWindow): void {
  window.webContents.on('zoom-changed', (_event, direction) => {
    window.webContents.zoomLevel += direction === 'in' ? 0.5 : -0.5
  })
}

/** A second start shows this window, on the screen or with the file that it names. Files of the system's file manager open likewise. */
function openWhatIsAsked(window: BrowserWindow, menu: AppMenu): void {
  const open = (given: readonly string[], folder: string) => {
    const opening = readArguments(given, folder)
    if (opening) void menu.open(opening)
  }
  open(process.argv.slice(app.isPackaged ? 1 : 2), process.cwd())
  app.on('second-instance', (_event, given, folder) => {
    showWindow(window)
    open(given.slice(1), folder)
  })
  for (const event of ['open-file', 'open-url'] as const)
    app.on(event as 'open-file', (_event, asked) => {
      showWindow(window)
      open([asked], '/')
    })
}

/** Delays quitting until the workbench is closed, so that current runs become interrupted and can be resumed. */
function closeWithCare(door: ClosableDoor): void {
  let isClosed = false
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
