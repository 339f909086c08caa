import { join } from 'node:path'
import { app, type BrowserWindow, session } from 'electron'
import { openBridge } from './bridge.ts'
import { keepCrashReports, watchCrashes } from './crash-notices.ts'
import { hardenContents, hardenSession } from './hardening.ts'
import { type ClosableDoor, openLocalWorkbench } from './local-workbench.ts'
import { AppMenu, addContextMenus } from './menu.ts'
import { readArguments } from './open-arguments.ts'
import { PageCommands } from './page-commands.ts'
import { registerScheme, servePages } from './pages.ts'
import { watchRuns } from './run-notices.ts'
import { askWhereToSave } from './save-files.ts'
import { openWindow, showWindow } from './window.ts'
import { StoredState } from './window-state.ts'

// Only one instance may run, because a history must not have a second writer. The first instance shows its window instead.
if (app.requestSingleInstanceLock()) start()
else app.quit()

/** Sets up what Electron needs before the application is ready, then opens the window. */
function start(): void {
  process.on('unhandledRejection', (reason) => console.error(reason))
  keepCrashReports()
  registerScheme()
  // With the sandbox and `--no-sandbox` together, Electron cannot start any process as root.
  if (!app.commandLine.hasSwitch('no-sandbox')) app.enableSandbox()
  hardenContents(app)
  app.whenReady().then(startWindow, console.error)
}

/** Opens the window and the workbench behind it. */
function startWindow(): void {
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
