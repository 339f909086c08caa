import { EspalierError } from '#contract/errors.ts'
import type { WrittenTaskId } from '#contract/titles.ts'
import type { QuestionRows } from '#engine/evaluation/tasks/index.ts'
import { underLimits } from '#engine/limits/reading.ts'
import { PythonRandom } from '#engine/random/python-random.ts'
import { noQuestions, type QuestionSource, readRowsOf } from '../tasks/questions.ts'
import { writtenTasks } from './index.ts'
import type { Turn, WrittenQuestion, WrittenTask } from './written-task.ts'

/** The seed with which lm-evaluation-harness draws examples. */
const examplesSeed = 1234

export interface AskedQuestion {
  readonly turns: readonly Turn[]
  readonly judge: WrittenQuestion['judge']
}

/** Reads the first `limit` questions of a task, with their examples. Also returns how many of the rows read were left out, by reason. */
export function readWritten(
  id: WrittenTaskId,
  source: QuestionSource,
  limit = Number.POSITIVE_INFINITY,
): Promise<{ questions: AskedQuestion[]; leftOut: ReadonlyMap<string, number> }> {
  const task: WrittenTask = writtenTasks[id]
  return underLimits(`The file of questions for ${task.title}`, async () => {
    const { questions, leftOut } = await readAll(id, task, source, limit)
    const { examples } = task
    const pool = examples ? (await readAll(id, examples, source, Number.POSITIVE_INFINITY)).questions : []
    if (examples && pool.length < examples.count)
      throw new EspalierError(
        'invalid',
        `${task.title} needs ${examples.count} examples, but its split "${examples.split}" has ${pool.length}.`,
      )
    const random = new PythonRandom(examplesSeed)
    return {
      leftOut,
      questions: questions.map(({ asked, judge }) => ({
        turns: [...(examples ? random.sample(pool, examples.count) : []).map(({ asked, answer }) => ({ asked, answer })), { asked }],
        judge,
      })),
    }
  })
}

async function readAll(id: WrittenTaskId, from: QuestionRows, source: QuestionSource, limit: number) {
  const questions: WrittenQuestion[] = []
  const leftOut = new Map<string, number>()
  for await (const { row, where } of readRowsOf(id, from, source)) {
    if (questions.length >= limit) break
    const question = writtenTasks[id].read(row, where)
    if ('leftOut' in question) leftOut.set(question.leftOut, (leftOut.get(question.leftOut) ?? 0) + 1)
    else questions.push(question)
  }
  if (questions.length > 0) return { questions, leftOut }
  throw new EspalierError('invalid', noQuestions(from, source.folder ?? from.file.path))
}
