import type { ErrorMessage } from '../errors.ts'
import type { ApiEvent } from '../events.ts'

/** An answer as it crosses to the page: errors lose all but their text when they are thrown over that border. */
export type BridgeAnswer<T = unknown> = { value: T } | { error: ErrorMessage }

/** Where the calls of the window go: `null` is the workbench in this program, else a server elsewhere and whether it answers. */
export type BridgeConnection = { address: string; up: boolean; inClear: boolean } | null

/** What the desktop window gives its page as `window.espalier`. A page in a browser has none of it and uses HTTP. */
export interface DesktopBridge {
  call(name: string, input: unknown): Promise<BridgeAnswer>
  subscribe(listener: (event: ApiEvent) => void): () => void
  /** `null` when the dialog was closed. Only for the workbench in this program: another machine's folders come from `files.browse`. */
  chooseFolder(): Promise<BridgeAnswer<string | null>>
  chooseFile(): Promise<BridgeAnswer<string | null>>
  copyText(text: string): Promise<BridgeAnswer<null>>
  /** Opens an address of the allow-list in the person's browser. */
  openLink(address: string): Promise<BridgeAnswer<null>>
  connection(): Promise<BridgeAnswer<BridgeConnection>>
  /** Sends the calls to a running `espalier serve`, by the line it printed. The page should start afresh after it. */
  attach(address: string): Promise<BridgeAnswer<BridgeConnection>>
  detach(): Promise<BridgeAnswer<BridgeConnection>>
}
