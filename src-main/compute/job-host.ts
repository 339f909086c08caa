import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import type { StepStore } from '#engine/steps/step-name.ts'

/** What a job in the compute process can use: requests to the main process, events, and signals to stop. */
export interface JobHost {
  readonly steps: StepStore
  /** Downloads a file through the main process, which has the token and the cache. Returns its path. */
  fetchFile: FetchHubFile
  /**
   * Claims memory for this process, instead of what it claimed before. Returns whether it was granted. If it `waits`, it must hold no model,
   * and gets its answer when the memory is free.
   */
  claimMemory(bytes: number, waits: boolean): Promise<boolean>
  emit(event: unknown): void
  signal: AbortSignal
  /** Returns a signal that aborts when this column of a generation is stopped, or the whole job. */
  columnSignal(column: number): AbortSignal
  /** Waits while the main process holds back events, because their reader is slow. */
  flow(): Promise<void>
}

/** Runs the tasks of the compute process. Tests substitute their own. */
export interface TaskPerformer {
  version: string
  perform(task: ComputeTask, host: JobHost): Promise<unknown>
}
