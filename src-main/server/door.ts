import type { CallApi, Listener } from '#contract/api.ts'

/** What an adapter needs from the workbench: the calls, validated by the contract, and the events. */
export interface Door {
  call: CallApi
  subscribe(listener: Listener): () => void
}
