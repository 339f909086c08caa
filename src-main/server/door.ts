import type { CallApi, Listener } from '#contract/api.ts'

/** What an adapter needs from the workbench: the calls, validated by the contract, and the events. */
export interface Door {
  call: CallApi
  /** `connected` is called whenever a connection to a server begins: events before it were missed. */
  subscribe(listener: Listener, connected?: () => void): () => void
}
