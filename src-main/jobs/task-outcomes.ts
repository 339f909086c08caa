import { createHash } from 'node:crypto'
import type { ScoredTask, TaskOutcomes } from '#contract/data/questions.ts'

/** Returns which questions were answered correctly, in a form that is compact enough for tables of many runs. */
export function outcomesOf({ task, questions }: ScoredTask): TaskOutcomes {
  const contents = questions.map(({ context, choices, gold }) => [context, choices, gold])
  const digits = (values: readonly boolean[]) => values.map(Number).join('')
  const perCharacter = questions.flatMap(({ correctPerCharacter }) => correctPerCharacter ?? [])
  return {
    task,
    hash: createHash('sha256').update(JSON.stringify(contents)).digest('hex'),
    correct: digits(questions.map(({ correct }) => correct)),
    ...(perCharacter.length === questions.length ? { correctPerCharacter: digits(perCharacter) } : {}),
  }
}
