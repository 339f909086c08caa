import type { RunRequest } from '#contract/run-request.ts'
import { releaseModel } from '#engine/model/kept-model.ts'
import { executeRun } from '#engine/run.ts'
import type { RunHost } from '#engine/run-steps.ts'
import type { Runner } from './runner.ts'
import { StepJournal } from './step-journal.ts'

/** Runs in this process that leave no trace in the history. */
export async function openJournalRunner(requests: readonly RunRequest[], fetchFile: NonNullable<RunHost['fetchFile']>): Promise<Runner> {
  const journal = await StepJournal.open(...requests)
  const controller = new AbortController()
  return {
    goesOn: journal.size > 0,
    run: (index, request, emit) => executeRun(request, { steps: journal.stepsOf(index), emit, fetchFile, signal: controller.signal }),
    async finish() {
      journal.remove()
    },
    async close() {
      controller.abort()
      await releaseModel()
    },
  }
}
