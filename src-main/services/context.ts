import type { CallName, Checked, Listener, Output } from '#contract/api.ts'
import type { History } from '#db/history.ts'
import type { HubOptions } from '#hub/hub.ts'
import type { ComputeHost } from '#jobs/compute/compute-host.ts'
import type { FetchFile } from '#jobs/run-attempt.ts'
import type { RunLogs } from '#jobs/run-log.ts'
import type { RunQueue } from '#jobs/run-queue.ts'
import type { Folders } from './models/folders.ts'
import type { PathGate } from './models/path-gate.ts'

/** Shared by all services: the history, the queue, the listeners, and the processes that answer questions about models. */
export interface Context {
  history: History
  folders: Folders
  gate: PathGate
  queue: RunQueue
  logs: RunLogs
  owner: string
  /** Overrides the hub settings. */
  hub: HubOptions
  emit: Listener
  /** Answers short questions that need the engine but no weights. */
  desk: ComputeHost
  /** Holds the playground's models. */
  playground: ComputeHost
  /** Writes pruned models. */
  exporter: ComputeHost
  /** Fetches a file of the hub for a job. */
  fetchFile: FetchFile
  /** Divides the processor between this many runs. */
  shareProcessor(slots: number | null): void
}

/** Implements a call. The signal is aborted when the client has disconnected. */
type Handler<C extends CallName> = (input: Checked<C>, signal?: AbortSignal) => Output<C> | Promise<Output<C>>
export type Handlers = { [C in CallName]: Handler<C> }

/** The calls of one topic. The workbench merges all topics. */
export type Calls<Prefix extends string> = { [C in CallName as C extends `${Prefix}.${string}` ? C : never]: Handler<C> }
