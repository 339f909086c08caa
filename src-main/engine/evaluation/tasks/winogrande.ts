import { z } from 'zod'
import { taskTitles } from '#contract/titles.ts'
import { strip } from './python-text.ts'
import { choiceLabel, defineTask } from './task.ts'

/** WinoGrande (arXiv 1907.10641), partial evaluation: each option fills the gap, and the text after the gap is scored. */
export const winogrande = defineTask({
  title: taskTitles.winogrande,
  split: 'validation',
  repository: 'allenai/winogrande',
  revision: '01e74176c63542e6b0bcb004dcdea22d94fb67b5',
  path: 'winogrande_xl/validation-00000-of-00001.parquet',
  columns: z.object({ sentence: z.string().includes('_'), option1: z.string(), option2: z.string(), answer: choiceLabel }),
  ask({ sentence, option1, option2, answer }) {
    const gap = sentence.indexOf('_')
    // The harness adds the space even before punctuation.
    const continuations = [` ${strip(sentence.slice(gap + 1))}`]
    const requests = [option1, option2].map((option) => ({ context: sentence.slice(0, gap) + option, continuations }))
    return { requests, gold: ['1', '2'].indexOf(answer) }
  },
})
