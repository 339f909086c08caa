import { z } from 'zod'
import { taskTitles } from '#contract/titles.ts'
import { countCodePoints } from './python-text.ts'
import { askChoices, choiceLabel, defineTask } from './task.ts'

const columns = z.object({
  question: z.string(),
  choices: z.object({ text: z.array(z.string()).min(1), label: z.array(choiceLabel) }),
  answerKey: choiceLabel,
})

const shared = {
  split: 'test' as const,
  repository: 'allenai/ai2_arc',
  revision: '210d026faf9955653af8916fad021475a3f00453',
  columns,
  // Three to five choices; labels are letters or digits.
  ask({ question, choices, answerKey }: z.infer<typeof columns>) {
    const gold = choices.label.indexOf(answerKey)
    return { ...askChoices(`Question: ${question}\nAnswer:`, choices.text, gold), lengths: choices.text.map(countCodePoints) }
  },
}

/** ARC (arXiv 1803.05457): the questions that simple methods can answer. */
export const arcEasy = defineTask({ ...shared, title: taskTitles.arc_easy, path: 'ARC-Easy/test-00000-of-00001.parquet' })

/** ARC (arXiv 1803.05457): the questions that simple methods cannot answer. */
export const arcChallenge = defineTask({
  ...shared,
  title: taskTitles.arc_challenge,
  path: 'ARC-Challenge/test-00000-of-00001.parquet',
})
