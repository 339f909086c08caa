import { z } from 'zod'
import { taskTitles } from '#contract/titles.ts'
import { mmluGroups } from './mmlu-subjects.ts'
import { strip } from './python-text.ts'
import { askChoices, choiceNumber, defineTask } from './task.ts'

const letters = ['A', 'B', 'C', 'D']

/** MMLU (arXiv 2009.03300): the prompt has four choices, and their letters are scored. */
export const mmlu = defineTask({
  title: taskTitles.mmlu,
  split: 'test',
  repository: 'cais/mmlu',
  revision: 'c30699e8356da336a370243923dbaf21066bb9fe',
  path: 'all/test-00000-of-00001.parquet',
  columns: z.object({
    question: z.string(),
    subject: z.string().refine((subject) => subject in mmluGroups, 'not one of the 57 subjects'),
    choices: z.array(z.string()).length(4),
    answer: choiceNumber,
  }),
  ask({ question, subject, choices, answer }) {
    const head = `The following are multiple choice questions (with answers) about ${subject.replaceAll('_', ' ')}.\n\n`
    const list = choices.map((choice, index) => `${letters[index]}. ${choice}\n`).join('')
    return { ...askChoices(`${head}${strip(question)}\n${list}Answer:`, letters, answer), subject }
  },
})
