import { app } from 'electron'
import { keepCrashReports } from './crash-notices.ts'
import { hardenContents } from './hardening.ts'
import { registerScheme } from './pages.ts'
import { startWindow } from './start-window.ts'

// A second writer on one history must not start; the first program shows its window instead.
if (app.requestSingleInstanceLock()) start()
else app.quit()

/** Everything that must stand before the application is ready, then the window. */
function start(): void {
  process.on('unhandledRejection', (reason) => console.error(reason))
  keepCrashReports()
  registerScheme()
  app.enableSandbox()
  hardenContents(app)
  app.whenReady().then(startWindow, console.error)
}
