import { z } from 'zod'
import { taskTitles } from '#contract/titles.ts'
import { capitalize, countCodePoints, strip } from './python-text.ts'
import { askChoices, choiceNumber, defineTask } from './task.ts'

/** HellaSwag (arXiv 1905.07830): which ending continues the scene. */
export const hellaswag = defineTask({
  title: taskTitles.hellaswag,
  split: 'validation',
  repository: 'Rowan/hellaswag',
  revision: '218ec52e09a7e7462a5400043bb9a69a41d06b76',
  path: 'data/validation-00000-of-00001.parquet',
  columns: z.object({
    activity_label: z.string(),
    ctx_a: z.string(),
    ctx_b: z.string(),
    endings: z.array(z.string()).min(1),
    label: choiceNumber,
  }),
  ask({ activity_label, ctx_a, ctx_b, endings, label }) {
    const choices = endings.map(clean)
    const context = clean(`${activity_label}: ${ctx_a} ${capitalize(ctx_b)}`)
    return { ...askChoices(context, choices, label), lengths: choices.map(countCodePoints) }
  },
})

/** Removes WikiHow's markup. The result is not stripped again, because in the harness spaces left at the ends count as characters. */
export function clean(text: string): string {
  return strip(text)
    .replaceAll(' [title]', '. ')
    .replace(/\[[^\n]*?\]/g, '')
    .replaceAll('  ', ' ')
}
