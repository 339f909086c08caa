import { type App, type BrowserWindow, crashReporter, dialog } from 'electron'

const mostReloads = 3
const withinMilliseconds = 60_000

/** Stores crash dumps on this machine only. Must run before the application is ready. */
export function keepCrashReports(): void {
  crashReporter.start({ uploadToServer: false, compress: true })
}

/** Reloads a crashed page up to three times a minute, and shows a message. */
export function watchCrashes(app: App, window: BrowserWindow): void {
  let reloads: number[] = []
  window.webContents.on('render-process-gone', (_event, { reason, exitCode }) => {
    console.error(`The page's process ended: ${reason} (${exitCode}).`)
    if (reason === 'clean-exit' || window.isDestroyed()) return
    const now = Date.now()
    reloads = [...reloads.filter((moment) => now - moment < withinMilliseconds), now]
    if (reloads.length > mostReloads) {
      dialog.showErrorBox(
        'Espalier cannot show its window',
        `The page crashed ${reloads.length} times within a minute (${reason}). Your history is safe. Restart Espalier.`,
      )
      app.quit()
      return
    }
    window.webContents.reload()
    const why = reason === 'oom' ? 'It ran out of memory: close other windows, or compare fewer runs at once.' : `Reason: ${reason}.`
    void dialog.showMessageBox(window, {
      type: 'warning',
      title: 'Espalier',
      message: 'The window was reloaded',
      detail: `${why} Runs continue, and the history is unaffected.`,
    })
  })
  window.on('unresponsive', () => console.error('The page does not answer.'))
  app.on('child-process-gone', (_event, { type, reason, exitCode, name }) => {
    if (reason !== 'clean-exit') console.error(`The ${name ?? type} process ended: ${reason} (${exitCode}).`)
  })
}
