import type { RunDocument } from '#contract/run.ts'
import type { RunEvent } from '#contract/run-events.ts'
import type { RunRequest } from '#contract/run-request.ts'

/** Does the runs of a command, one after the other; finished steps of an earlier start are taken over. */
export interface Runner {
  /** Whether an earlier start of the same command left something to go on from. */
  readonly goesOn: boolean
  run(index: number, request: RunRequest, listen: (event: RunEvent) => void): Promise<RunDocument>
  /** All is done: nothing is left to go on from. */
  finish(): Promise<void>
  /** Ends at once; what was finished stays. */
  close(): Promise<void>
}
