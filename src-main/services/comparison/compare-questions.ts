import type { Checked } from '#contract/api.ts'
import type { QuestionComparison } from '#contract/comparison/compare.ts'
import { differenceInterval, pairTasks } from '#contract/comparison/paired.ts'
import type { ScoredQuestion, TaskOutcomes } from '#contract/data/questions.ts'
import { EspalierError } from '#contract/errors.ts'
import type { RunRow } from '#db/runs/runs.ts'
import type { Context } from '../context.ts'

/** Compares two runs on the questions that both answered: a test for each task, and one page of flipped questions, clearest first. */
export function compareQuestions(
  history: Context['history'],
  { first, second, task, offset, limit }: Checked<'compare.questions'>,
): QuestionComparison {
  const [own, other] = [answersOf(history, first), answersOf(history, second)]
  const tasks = pairTasks(own.outcomes, other.outcomes)
  if (tasks.length === 0)
    throw new EspalierError(
      'conflict',
      `"${own.row.name}" and "${other.row.name}" have no questions in common. Evaluate both on the same zero-shot tasks.`,
    )
  const paired = [...new Set(tasks.map((one) => one.task))].filter((one) => task === undefined || one === task)
  const flipped = paired.flatMap((name) => {
    const [before, after] = [own, other].map(({ scored }) => scored.find((one) => one.task === name)?.questions ?? []) as [
      ScoredQuestion[],
      ScoredQuestion[],
    ]
    return before.flatMap((question, number): QuestionComparison['flipped'] => {
      const now = after[number]
      if (!now || now.correct === question.correct) return []
      return [{ task: name, number, direction: now.correct ? 'gained' : 'lost', first: question, second: now }]
    })
  })
  const sorted = flipped.sort((a, b) => swing(b) - swing(a))
  return {
    tasks: tasks.map((one) => ({ ...one, interval: intervalOf(one, own.outcomes, other.outcomes) })),
    total: sorted.length,
    flipped: sorted.slice(offset, offset + limit),
  }
}

/** How much the right choice's lead over the best wrong one changed, in nats. */
function swing({ first, second }: QuestionComparison['flipped'][number]): number {
  return Math.abs(lead(first) - lead(second))
}

function lead({ scores, gold }: ScoredQuestion): number {
  return (scores[gold] ?? 0) - Math.max(...scores.filter((_, choice) => choice !== gold))
}

function intervalOf({ task, measure }: { task: string; measure: string }, first: readonly TaskOutcomes[], second: readonly TaskOutcomes[]) {
  const digits = (all: readonly TaskOutcomes[]) => {
    const found = all.find((one) => one.task === task)
    return (measure === 'accuracy' ? found?.correct : found?.correctPerCharacter) ?? ''
  }
  return differenceInterval(digits(first), digits(second))
}

function answersOf(
  history: Context['history'],
  id: string,
): { row: RunRow; outcomes: TaskOutcomes[]; scored: ReturnType<Context['history']['documents']['questions']> } {
  const row = history.runs.get(id)
  return { row, outcomes: history.documents.find(row.number).outcomes, scored: history.documents.questions(row.number) }
}
