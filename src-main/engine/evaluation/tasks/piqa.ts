import { z } from 'zod'
import { taskTitles } from '#contract/titles.ts'
import { countCodePoints } from './python-text.ts'
import { askChoices, choiceNumber, defineTask } from './task.ts'

/** PIQA (arXiv 1911.11641): which of two ways reaches a goal. */
export const piqa = defineTask({
  title: taskTitles.piqa,
  split: 'validation',
  repository: 'baber/piqa',
  revision: '142f6d7367fd9877f0fb3b5734ea6a545f54cdd1',
  path: 'piqa_validation.parquet',
  columns: z.object({ goal: z.string(), sol1: z.string(), sol2: z.string(), label: choiceNumber }),
  ask({ goal, sol1, sol2, label }) {
    const choices = [sol1, sol2]
    return { ...askChoices(`Question: ${goal}\nAnswer:`, choices, label), lengths: choices.map(countCodePoints) }
  },
})
