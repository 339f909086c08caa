import type { MeasureRequest } from '#contract/runs/run-request.ts'
import type { TaskId, WrittenTaskId } from '#contract/titles.ts'
import { isTaskId, tasks } from '#engine/evaluation/tasks/index.ts'
import { readQuestions } from '#engine/evaluation/tasks/questions.ts'
import { isWrittenTaskId, writtenTasks } from '#engine/evaluation/written/index.ts'
import { readWritten } from '#engine/evaluation/written/questions.ts'

/** Published sizes of tasks, and about how many tokens all answers to one question have together. */
const publishedTasks: Readonly<Record<TaskId, { questions: number; tokens: number }>> = {
  arc_challenge: { questions: 1172, tokens: 150 },
  arc_easy: { questions: 2376, tokens: 140 },
  hellaswag: { questions: 10_042, tokens: 380 },
  mmlu: { questions: 14_042, tokens: 150 },
  piqa: { questions: 1838, tokens: 80 },
  winogrande: { questions: 1267, tokens: 60 },
}

/** About how many questions can be checked, and how many tokens a prompt has with its examples. */
const publishedWritten: Readonly<Record<WrittenTaskId, { questions: number; tokens: number }>> = {
  gsm8k: { questions: 1319, tokens: 900 },
  ifeval: { questions: 400, tokens: 60 },
}

interface QuestionCount {
  readonly title: string
  readonly questions: number
  /** Tokens read for a question. */
  readonly tokens: number
  /** The maximum number of tokens generated for it. A pruned model often continues to this limit. */
  readonly written: number
}

/** The number of questions in a task, and their size; undefined for an unknown task. */
export async function countQuestions(
  task: string,
  { folder, limit }: Extract<MeasureRequest, { kind: 'tasks' }>,
): Promise<QuestionCount | undefined> {
  const published = (count: number) => Math.min(count, limit ?? count)
  if (isTaskId(task)) {
    const { questions, tokens } = publishedTasks[task]
    const count = folder === undefined ? published(questions) : (await readQuestions(task, { folder }, limit)).length
    return { title: tasks[task].title, questions: count, tokens, written: 0 }
  }
  if (!isWrittenTaskId(task)) return undefined
  const { questions, tokens } = publishedWritten[task]
  const count = folder === undefined ? published(questions) : (await readWritten(task, { folder }, limit)).questions.length
  return { title: writtenTasks[task].title, questions: count, tokens, written: writtenTasks[task].tokens }
}
