import { app } from 'electron'
import { keepCrashReports } from './crash-notices.ts'
import { hardenContents } from './hardening.ts'
import { registerScheme } from './pages.ts'
import { startWindow } from './start-window.ts'

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
