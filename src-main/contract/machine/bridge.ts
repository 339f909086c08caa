import type { ErrorMessage } from '../errors.ts'
import type { ApiEvent } from '../events.ts'
import { screenTitles } from '../titles.ts'
import type { Settings } from './settings.ts'

/** A result on its way to the page. Errors are passed as values, because thrown ones lose everything except their text. */
export type BridgeAnswer<T = unknown> = { value: T } | { error: ErrorMessage }

/** What menus, notifications, links and files ask of the page. */
export type DesktopCommand =
  /** Opens a screen by its address, such as `#/run/ID`. */
  | { name: 'go'; hash: string }
  /** Opens the dialog that adds a model, with the path of the file if there is one. */
  | { name: 'add model'; file?: string }
  /** Imports an exported experiment or the description of a run. */
  | { name: 'import'; content: string }
  | { name: 'back' | 'forward' | 'find' | 'palette' | 'shortcuts' | 'about' | 'report' }
  /** A file of the page was saved here. */
  | { name: 'saved'; file: string }

/** Whether these are the parts of a screen's address: the screen, then ids. */
export function isScreenPath(path: readonly string[]): boolean {
  const [screen = '', ...ids] = path
  return [...Object.keys(screenTitles), 'run', 'help'].includes(screen) && ids.every((id) => /^[\w.-]{1,80}$/.test(id))
}

/** An entry of a context menu. */
export interface DesktopMenuItem {
  label: string
  disabled?: boolean
}

/** The API that the desktop window gives its page as `window.espalier`. In a browser it is absent and the page uses HTTP. */
export interface DesktopBridge {
  /** A call with an `id` can be cancelled. */
  call(name: string, input: unknown, id?: string): Promise<BridgeAnswer>
  cancel(id: string): Promise<BridgeAnswer<null>>
  subscribe(listener: (event: ApiEvent) => void): () => void
  /** Returns null if the dialog was cancelled. */
  chooseFolder(): Promise<BridgeAnswer<string | null>>
  chooseFile(): Promise<BridgeAnswer<string | null>>
  /** Returns the path of a file or folder that the user dropped on the page. */
  pathOf(file: File): string
  /** Receives commands from now on. Those that came before are sent first. */
  onCommand(listener: (command: DesktopCommand) => void): void
  /** Shows a menu at the mouse, and returns the index of the chosen entry; null if none was chosen. */
  showMenu(items: DesktopMenuItem[]): Promise<BridgeAnswer<number | null>>
  /** Gives the window the page's theme. */
  setTheme(theme: Settings['theme']): Promise<BridgeAnswer<null>>
  copyText(text: string): Promise<BridgeAnswer<null>>
  /** Shows a file or folder in the system's file manager. */
  showInFolder(path: string): Promise<BridgeAnswer<null>>
  /** Opens an address from the allow-list in the user's browser. */
  openLink(address: string): Promise<BridgeAnswer<null>>
}
