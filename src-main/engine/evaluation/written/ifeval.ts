import { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { readWith } from '#contract/explain-issue.ts'
import { writtenTitles } from '#contract/titles.ts'
import { strip } from '#engine/evaluation/tasks/python-text.ts'
import { type LeftOut, readColumns, type WrittenTask } from './written-task.ts'

/** Whether an answer follows an instruction. */
type Check = (answer: string) => boolean

const relation = z.enum(['less than', 'at least'])
const count = z.number().int()

/** Makes a check that needs details. Returns undefined if they are missing or invalid, so that the prompt is left out. */
function withDetails<Details extends object>(details: z.ZodType<Details>, make: (details: Details) => Check) {
  return (given: Record<string, unknown>): Check | undefined => {
    const read = readWith(details, given)
    return read.success ? make(read.data) : undefined
  }
}

const plain = (check: Check) => () => check

function compares(found: number, how: z.infer<typeof relation>, bound: number): boolean {
  return how === 'less than' ? found < bound : found >= bound
}

const countMatches = (text: string, pattern: string, flags = 'giu') => text.match(new RegExp(pattern, flags))?.length ?? 0

/** The harness treats words of the data as patterns, but untrusted patterns could backtrack forever. */
const literally = RegExp.escape

/** Python's `\w` and `\b`, which include the letters of all scripts. */
const wordCharacter = '[\\p{L}\\p{N}_]'
const wordEdge = `(?:(?<=${wordCharacter})(?!${wordCharacter})|(?<!${wordCharacter})(?=${wordCharacter}))`

/** The instructions of IFEval that the harness checks with a language library. */
const needLibrary: ReadonlySet<string> = new Set([
  'language:response_language',
  'length_constraints:number_sentences',
  'change_case:capital_word_frequency',
  'change_case:english_capital',
  'change_case:english_lowercase',
])

/** The instructions of IFEval that are checked without a language library, by the ids of its data. */
const checks: Readonly<Record<string, (details: Record<string, unknown>) => Check | undefined>> = {
  'keywords:existence': withDetails(
    z.object({ keywords: z.array(z.string()).min(1) }),
    ({ keywords }) =>
      (text) =>
        keywords.every((word) => countMatches(text, literally(word)) > 0),
  ),
  'keywords:frequency': withDetails(
    z.object({ keyword: z.string(), frequency: count, relation }),
    ({ keyword, frequency, relation: how }) =>
      (text) =>
        compares(countMatches(text, literally(strip(keyword))), how, frequency),
  ),
  'keywords:forbidden_words': withDetails(
    z.object({ forbidden_words: z.array(z.string()).min(1) }),
    ({ forbidden_words }) =>
      (text) =>
        forbidden_words.every((word) => countMatches(text, wordEdge + literally(word) + wordEdge) === 0),
  ),
  'keywords:letter_frequency': withDetails(
    z.object({ letter: z.string().regex(/^[a-z]$/i), let_frequency: count, let_relation: relation }),
    ({ letter, let_frequency, let_relation }) =>
      (text) =>
        compares(text.toLowerCase().split(letter.toLowerCase()).length - 1, let_relation, let_frequency),
  ),
  'length_constraints:number_words': withDetails(
    z.object({ num_words: count, relation }),
    ({ num_words, relation: how }) =>
      (text) =>
        compares(countMatches(text, `${wordCharacter}+`), how, num_words),
  ),
  'length_constraints:number_paragraphs': withDetails(
    z.object({ num_paragraphs: count }),
    ({ num_paragraphs }) =>
      (text) =>
        countBetween(text, /\s?\*\*\*\s?/) === num_paragraphs,
  ),
  'length_constraints:nth_paragraph_first_word': withDetails(
    z.object({ num_paragraphs: count, nth_paragraph: count, first_word: z.string() }),
    ({ num_paragraphs, nth_paragraph, first_word }) =>
      (text) =>
        startsParagraph(text, { paragraphs: num_paragraphs, place: nth_paragraph, word: first_word.toLowerCase() }),
  ),
  'detectable_content:number_placeholders': withDetails(
    z.object({ num_placeholders: count }),
    ({ num_placeholders }) =>
      (text) =>
        countMatches(text, '\\[.*?\\]') >= num_placeholders,
  ),
  'detectable_content:postscript': withDetails(z.object({ postscript_marker: z.string() }), ({ postscript_marker: marker }) => {
    const usual = new Map([
      ['P.P.S', 'p\\.\\s?p\\.\\s?s'],
      ['P.S.', 'p\\.\\s?s\\.'],
    ])
    return (text) => countMatches(text.toLowerCase(), usual.get(strip(marker)) ?? literally(strip(marker).toLowerCase())) > 0
  }),
  'detectable_format:number_bullet_lists': withDetails(
    z.object({ num_bullets: count }),
    ({ num_bullets }) =>
      (text) =>
        countMatches(text, '^\\s*\\*[^*].*$', 'gmu') + countMatches(text, '^\\s*-.*$', 'gmu') === num_bullets,
  ),
  'detectable_format:constrained_response': plain((text) =>
    ['My answer is yes.', 'My answer is no.', 'My answer is maybe.'].some((option) => text.includes(option)),
  ),
  'detectable_format:number_highlighted_sections': withDetails(
    z.object({ num_highlights: count }),
    ({ num_highlights }) =>
      (text) =>
        countHighlights(text) >= num_highlights,
  ),
  'detectable_format:multiple_sections': withDetails(
    z.object({ section_spliter: z.string(), num_sections: count }),
    ({ section_spliter, num_sections }) =>
      (text) =>
        countMatches(text, `\\s?${literally(strip(section_spliter))}\\s?\\d+\\s?`, 'gu') >= num_sections,
  ),
  'detectable_format:json_format': plain(isJson),
  'detectable_format:title': plain((text) =>
    (text.match(/<<[^\n]+>>/g) ?? []).some((title) => strip(title.replace(/^<+|>+$/g, '')) !== ''),
  ),
  'combination:two_responses': plain((text) => {
    const parts = text.split('******').map(strip)
    const answers = parts.filter((part) => part !== '')
    return parts.slice(1, -1).every((part) => part !== '') && answers.length === 2 && answers[0] !== answers[1]
  }),
  'combination:repeat_prompt': withDetails(
    z.object({ prompt_to_repeat: z.string().min(1) }),
    ({ prompt_to_repeat }) =>
      (text) =>
        strip(text).toLowerCase().startsWith(strip(prompt_to_repeat).toLowerCase()),
  ),
  'startend:end_checker': withDetails(
    z.object({ end_phrase: z.string() }),
    ({ end_phrase }) =>
      (text) =>
        strip(text)
          .replace(/^"+|"+$/g, '')
          .toLowerCase()
          .endsWith(strip(end_phrase).toLowerCase()),
  ),
  'startend:quotation': plain((text) => /^".*"$/s.test(strip(text))),
  'punctuation:no_comma': plain((text) => !text.includes(',')),
}

/** The number of parts between dividers; NaN if a part in the middle is empty. Empty parts at the ends do not count. */
function countBetween(text: string, divider: RegExp): number {
  const parts = text.split(divider).map(strip)
  if (parts.slice(1, -1).includes('')) return Number.NaN
  return parts.filter((part) => part !== '').length
}

function startsParagraph(text: string, { paragraphs, place, word }: { paragraphs: number; place: number; word: string }): boolean {
  const parts = text.split('\n\n').map(strip)
  const written = parts.filter((part) => part !== '').length
  const [first = ''] = (place <= written ? (parts[place - 1] ?? '') : '').split(/\s+/u)
  const letters = /^[^.,?!'"]*/.exec(first.replace(/^'+/, '').replace(/^"+/, ''))?.[0] ?? ''
  return first !== '' && written === paragraphs && letters.toLowerCase() === word
}

/** Counts the texts between single or double asterisks. */
function countHighlights(text: string): number {
  const single = (text.match(/\*[^\n*]*\*/g) ?? []).map((found) => found.replace(/^\*+|\*+$/g, ''))
  const double = (text.match(/\*\*[^\n*]*\*\*/g) ?? []).map((found) => found.slice(2, -2))
  return [...single, ...double].filter((found) => strip(found) !== '').length
}

/** Whether a text is JSON, also inside Markdown's backticks. NaN and infinities are allowed, as in Python. */
function isJson(text: string): boolean {
  const inside = strip(
    strip(text)
      .replace(/^```(?:json|Json|JSON)?/, '')
      .replace(/```$/, ''),
  )
  try {
    JSON.parse(inside.replace(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (found) => (found.startsWith('"') ? found : '0')))
    return true
  } catch {
    return false
  }
}

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
