import { z } from 'zod'
import { writtenTitles } from '#contract/titles.ts'
import { strip } from '../tasks/python-text.ts'
import { readColumns, type WrittenTask } from './written-task.ts'

const columns = z.object({ question: z.string(), answer: z.string() })
const file = (split: string) => ({
  kind: 'dataset' as const,
  repository: 'openai/gsm8k',
  revision: 'e53f048856ff4f594e959d75785d2c2d37b678ee',
  path: `main/${split}-00000-of-00001.parquet`,
})
const title = writtenTitles.gsm8k

/** GSM8K (arXiv 2110.14168): math word problems, after five examples. */
export const gsm8k: WrittenTask = {
  title,
  file: file('test'),
  split: 'test',
  examples: { title, file: file('train'), split: 'train', count: 5 },
  tokens: 256,
  stops: ['Question:', '</s>', '<|im_end|>'],
  read(row, where) {
    const { question, answer } = readColumns(columns, row, title, where)
    return {
      asked: `Question: ${question}\nAnswer:`,
      answer,
      judge: (text) => ({
        'exact match': equal(strictNumber(text), answer),
        'exact match, last number': equal(lastNumber(text), answer),
      }),
    }
  },
}

/** The value for answers without a number. */
const none = '[invalid]'

/** The first number after `####`. */
function strictNumber(text: string): string {
  return strip(/#### (-?[0-9.,]+)/.exec(text)?.[1] ?? none)
}

/** The last number in the text, in any notation. */
function lastNumber(text: string): string {
  return strip(text.match(/-?[$0-9.,]{2,}|-?[0-9]+/g)?.at(-1) ?? none)
}

/** Whether a number equals the right answer, ignoring commas, dollar signs, the worked solution, a full stop at the end, and case. */
function equal(found: string, answer: string): boolean {
  return plain(found) === plain(answer)
}

function plain(text: string): string {
  return text
    .replace(/[,$]/g, '')
    .replace(/.*#### /s, '')
    .replace(/\.(?=\n?$)/, '')
    .toLowerCase()
}
