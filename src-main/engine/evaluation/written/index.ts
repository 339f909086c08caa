import { everyTaskTitle, type WrittenTaskId } from '#contract/titles.ts'
import { gsm8k } from './gsm8k.ts'
import { ifeval } from './ifeval.ts'
import type { WrittenTask } from './written-task.ts'

/** The tasks with written answers, by their names in lm-evaluation-harness. */
export const writtenTasks = { gsm8k, ifeval } as const satisfies Record<WrittenTaskId, WrittenTask>

export function isWrittenTaskId(name: string): name is WrittenTaskId {
  return Object.hasOwn(writtenTasks, name)
}

export function unknownTask(name: string): string {
  return `There is no task "${name}". Choose from: ${Object.keys(everyTaskTitle).join(', ')}.`
}
