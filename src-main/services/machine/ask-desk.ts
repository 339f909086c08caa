import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { ComputeHost } from '#jobs/compute/compute-host.ts'

/** Time limit for a question about models. The read limits end it much sooner, unless a disk does not respond. */
const questionSeconds = 60

/** A killed process would make the next question wait longer: a new one starts and reads its models again. */
const graceMilliseconds = 5000

/** Asks a compute process, usually the desk, which answers short questions. Gives up after the time limit, or when the caller disconnects. */
export async function askDesk(
  desk: ComputeHost,
  task: ComputeTask,
  signal?: AbortSignal,
  deadlineSeconds = questionSeconds,
): Promise<unknown> {
  signal?.throwIfAborted()
  return await desk.perform(task, { deadlineSeconds, signal, graceMilliseconds }).result
}
