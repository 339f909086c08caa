import type { ErrorMessage } from '../errors.ts'
import type { ApiEvent } from '../events.ts'

/** A result on its way to the page. Errors are passed as values, because thrown ones lose everything except their text. */
export type BridgeAnswer<T = unknown> = { value: T } | { error: ErrorMessage }

/**
 * Where the window's calls go: null for the workbench in this program, else a server. `up` says whether it answers, `inClear` whether the
 * connection is unencrypted.
 */
export type BridgeConnection = { address: string; up: boolean; inClear: boolean } | null

/** The API that the desktop window gives its page as `window.espalier`. In a browser it is absent and the page uses HTTP. */
export interface DesktopBridge {
  call(name: string, input: unknown): Promise<BridgeAnswer>
  subscribe(listener: (event: ApiEvent) => void): () => void
  /** Returns null if the dialog was cancelled. Only for the local workbench: `files.browse` lists another machine's folders. */
  chooseFolder(): Promise<BridgeAnswer<string | null>>
  chooseFile(): Promise<BridgeAnswer<string | null>>
  /** Returns the path of a file or folder that the user dropped on the page. Only for the local workbench. */
  pathOf(file: File): string
  copyText(text: string): Promise<BridgeAnswer<null>>
  /** Opens an address from the allow-list in the user's browser. */
  openLink(address: string): Promise<BridgeAnswer<null>>
  connection(): Promise<BridgeAnswer<BridgeConnection>>
  /** Sends all calls to a running `espalier serve`, given the line it printed. Reload the page afterwards. */
  attach(address: string): Promise<BridgeAnswer<BridgeConnection>>
  detach(): Promise<BridgeAnswer<BridgeConnection>>
}
