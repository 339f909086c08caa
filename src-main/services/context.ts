import type { CallName, Checked, Listener, Output } from '#contract/api.ts'
import type { History } from '#db/history.ts'
import type { HubOptions } from '#hub/hub.ts'
import type { ComputeHost } from '#jobs/compute/compute-host.ts'
import type { MemoryBudget } from '#jobs/compute/memory-budget.ts'
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
  /** The compute process for short questions to the engine, such as what a checkpoint contains. */
  desk: ComputeHost
  /** The compute process that finds and times this machine's devices. It takes seconds, and short questions must not wait for it. */
  tester: ComputeHost
  /** The compute process that holds the playground's model. */
  playground: ComputeHost
  /** The compute process that writes pruned models and measures files in llama.cpp. */
  exporter: ComputeHost
  /** Downloads a file from the hub for a job. */
  fetchFile: FetchFile
  /** What runs, the playground and exports share. */
  memory: MemoryBudget
  /** Divides the processor between this many runs. Null uses the default number. */
  shareProcessor(slots: number | null): void
}

/** Implements a call. The signal is aborted when the client has disconnected. */
type Handler<C extends CallName> = (input: Checked<C>, signal?: AbortSignal) => Output<C> | Promise<Output<C>>
export type Handlers = { [C in CallName]: Handler<C> }

/** The calls of one topic. The workbench merges all topics. */
export type Calls<Prefix extends string> = { [C in CallName as C extends `${Prefix}.${string}` ? C : never]: Handler<C> }
