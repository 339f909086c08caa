import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { FetchHubFile } from '#contract/models/hub-file.ts'
import type { StepStore } from '#engine/steps/step-store.ts'

/** What a job in the compute process can request from the main process. */
export interface JobHost {
  readonly steps: StepStore
  /** Downloads use the main process, which has the token and the cache. */
  fetchFile: FetchHubFile
  emit(event: unknown): void
  signal: AbortSignal
  /** Aborts when one column of a generation is stopped, or all of them. */
  columnSignal(column: number): AbortSignal
}

/** Does the tasks of the compute process; tests substitute another one. */
export interface TaskPerformer {
  version: string
  perform(task: ComputeTask, host: JobHost): Promise<unknown>
}
