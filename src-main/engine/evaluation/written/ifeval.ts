import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { writtenTitles } from '#contract/titles.ts'
import { strip } from '../tasks/python-text.ts'
import { type Check, checks, needLibrary } from './instructions.ts'
import { type LeftOut, readColumns, type WrittenTask } from './written-task.ts'

const columns = z.object({
  prompt: z.string(),
  instruction_id_list: z.array(z.string()).min(1),
  kwargs: z.array(z.record(z.string(), z.unknown())),
})
const title = writtenTitles.ifeval

/** IFEval (arXiv 2311.07911): prompts with instructions that a program can check. Those that need a language library are left out. */
export const ifeval: WrittenTask = {
  title,
  file: {
    kind: 'dataset',
    repository: 'google/IFEval',
    revision: '966cd89545d6b6acfd7638bc708b98261ca58e84',
    path: 'ifeval_input_data.jsonl',
  },
  split: 'train',
  tokens: 1280,
  stops: [],
  read(row, where) {
    const { prompt, instruction_id_list: ids, kwargs } = readColumns(columns, row, title, where)
    const unknown = ids.find((id) => !Object.hasOwn(checks, id) && !needLibrary.has(id))
    if (unknown !== undefined)
      throw new EspalierError('invalid', `${where} is not a valid ${title} question: the instruction "${unknown}" is unknown.`)
    if (ids.some((id) => needLibrary.has(id))) return leftOut('instructions that need a language library')
    const found = ids.flatMap((id, index) => checks[id]?.(kwargs[index] ?? {}) ?? [])
    if (found.length < ids.length) return leftOut('instructions with details that cannot be checked')
    return { asked: prompt, answer: '', judge: (text) => judge(text, found) }
  },
}

const leftOut = (reason: string): LeftOut => ({ leftOut: reason })

function judge(text: string, instructions: readonly Check[]) {
  const follows = (texts: readonly string[]) => instructions.map((check) => texts.some((one) => strip(one) !== '' && check(one)))
  const [strict, loose] = [follows([text]), follows(variants(text))]
  return {
    'prompts followed': strict.every(Boolean),
    'prompts followed, loosely': loose.every(Boolean),
    'instructions followed': strict,
    'instructions followed, loosely': loose,
  }
}

/**
 * The variants of an answer that are judged: whole, and without its first line, its last line or both, which are often a greeting or a
 * sign-off. Each variant also without asterisks.
 */
function variants(text: string): string[] {
  const lines = text.split('\n')
  const cut = [lines.slice(1), lines.slice(0, -1), lines.slice(1, -1)].map((part) => strip(part.join('\n')))
  return [text, ...cut].flatMap((one) => [one, one.replaceAll('*', '')])
}
