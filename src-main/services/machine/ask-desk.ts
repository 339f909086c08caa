import type { ComputeTask } from '#contract/machine/compute-messages.ts'
import type { ComputeHost } from '#jobs/compute-host.ts'

/** What a question about models may take: its limits of reading end it far sooner, unless a disk does not answer. */
const questionSeconds = 60

/** Asks the desk a question. It is given up when it takes too long, and when whoever asked has left. */
export async function askDesk(
  desk: ComputeHost,
  task: ComputeTask,
  signal?: AbortSignal,
  deadlineSeconds = questionSeconds,
): Promise<unknown> {
  signal?.throwIfAborted()
  const job = desk.perform(task, { deadlineSeconds })
  const leave = () => job.cancel()
  signal?.addEventListener('abort', leave, { once: true })
  try {
    return await job.result
  } finally {
    signal?.removeEventListener('abort', leave)
  }
}
