import type { BrowserWindow } from 'electron'
import type { DesktopCommand } from '#contract/machine/bridge.ts'
import { channels } from './channels.ts'
import { handle } from './ipc.ts'

/** Sends what menus, notifications and files ask for to the page. Commands wait until the page listens, for instance after a reload. */
export class PageCommands {
  readonly #window: BrowserWindow
  readonly #waiting: DesktopCommand[] = []
  #isListening = false

  constructor(window: BrowserWindow) {
    this.#window = window
    handle(channels.listening, () => {
      this.#isListening = true
      for (const command of this.#waiting.splice(0)) this.send(command)
      return null
    })
    window.webContents.on('did-start-navigation', ({ isSameDocument, isMainFrame }) => {
      if (isMainFrame && !isSameDocument) this.#isListening = false
    })
  }

  send(command: DesktopCommand): void {
    if (this.#window.isDestroyed()) return
    if (this.#isListening) this.#window.webContents.send(channels.command, command)
    else this.#waiting.push(command)
  }
}
