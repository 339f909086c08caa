import type { CallApi, Listener } from '#contract/api.ts'

/** What a door needs of the workbench: the calls, checked against the contract behind it, and the events as they happen. */
export interface Door {
  call: CallApi
  subscribe(listener: Listener): () => void
}
