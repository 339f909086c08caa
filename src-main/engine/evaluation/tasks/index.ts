import type { TaskId } from '#contract/titles.ts'
import { arcChallenge, arcEasy } from './arc.ts'
import { hellaswag } from './hellaswag.ts'
import { mmlu } from './mmlu.ts'
import { piqa } from './piqa.ts'
import type { Task } from './task.ts'
import { winogrande } from './winogrande.ts'

/** The zero-shot tasks, by their names in lm-evaluation-harness. */
export const tasks = {
  winogrande,
  arc_easy: arcEasy,
  arc_challenge: arcChallenge,
  hellaswag,
  piqa,
  mmlu,
} as const satisfies Record<TaskId, Task>

export const taskIds = Object.keys(tasks) as TaskId[]

export function isTaskId(name: string): name is TaskId {
  return Object.hasOwn(tasks, name)
}
