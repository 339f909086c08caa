import type { CallName, Checked, Listener, Output } from '#contract/api.ts'
import type { History } from '#db/history.ts'
import type { HubOptions } from '#hub/hub.ts'
import type { ComputeHost } from '#jobs/compute-host.ts'
import type { RunLogs } from '#jobs/run-log.ts'
import type { RunQueue } from '#jobs/run-queue.ts'
import type { Folders } from './models/folders.ts'
import type { PathGate } from './models/path-gate.ts'

/** What the services share: the history, the queue, who listens, and the processes that answer questions about models. */
export interface Context {
  history: History
  folders: Folders
  gate: PathGate
  queue: RunQueue
  logs: RunLogs
  owner: string
  /** How the hub is reached, where not by the settings. */
  hub: HubOptions
  emit: Listener
  /** Answers short questions that need the engine but no weights. */
  desk: ComputeHost
  /** Holds the playground's models. */
  playground: ComputeHost
  /** Writes pruned models. */
  exporter: ComputeHost
  /** Gives the processor to so many runs at once. */
  shareProcessor(slots: number | null): void
}

/** Does a call. The signal is aborted when nobody waits for the answer any more. */
export type Handler<C extends CallName> = (input: Checked<C>, signal?: AbortSignal) => Output<C> | Promise<Output<C>>
export type Handlers = { [C in CallName]: Handler<C> }

/** The calls of one service; the workbench puts all of them together. */
export type Service<Prefix extends string> = { [C in CallName as C extends `${Prefix}.${string}` ? C : never]: Handler<C> }
