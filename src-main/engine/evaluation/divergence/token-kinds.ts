/** The kinds of tokens, in the order of the tables. A kind depends on the token's text and the text around it. */
export const tokenKinds = ['word', 'word part', 'name', 'number', 'punctuation', 'code', 'space', 'bytes'] as const
type TokenKind = (typeof tokenKinds)[number]

const scripts = [
  ['Latin', /\p{Script=Latin}/u],
  ['Greek', /\p{Script=Greek}/u],
  ['Cyrillic', /\p{Script=Cyrillic}/u],
  ['Arabic', /\p{Script=Arabic}/u],
  ['Hebrew', /\p{Script=Hebrew}/u],
  ['Devanagari', /\p{Script=Devanagari}/u],
  ['Han', /\p{Script=Han}/u],
  ['Kana', /[\p{Script=Hiragana}\p{Script=Katakana}]/u],
  ['Hangul', /\p{Script=Hangul}/u],
  ['Thai', /\p{Script=Thai}/u],
  ['another script', /\p{L}/u],
] as const

/** The script of the first letter. Digits, signs and spaces have no script. */
export function scriptOf(text: string): string {
  const letter = /\p{L}/u.exec(text)?.[0]
  if (letter === undefined) return 'no letters'
  return scripts.find(([, pattern]) => pattern.test(letter))?.[0] ?? 'another script'
}

/**
 * Determines the kind of a token. Code is recognised by the token's line: brackets, assignments, calls, or words joined as in programs. A
 * name begins with a capital letter within a sentence.
 */
export function kindOf(text: string, before: string, after: string): TokenKind {
  if (text === '' || text.includes('\uFFFD')) return 'bytes'
  if (/^\s+$/.test(text)) return 'space'
  if (looksLikeCode(lineAround(before, text, after))) return 'code'
  if (/\p{N}/u.test(text)) return 'number'
  if (!/\p{L}/u.test(text)) return 'punctuation'
  const begins = /^\s/.test(text) || !/[\p{L}\p{N}'’]$/u.test(before)
  if (!begins) return /\p{Lu}\p{Ll}*$/u.test(lastWord(before)) && isWithinSentence(before, lastWord(before)) ? 'name' : 'word part'
  return /^\s*\p{Lu}/u.test(text) && isWithinSentence(before, '') ? 'name' : 'word'
}

const lastWord = (text: string): string => /[\p{L}'’]+$/u.exec(text)?.[0] ?? ''

/** Whether a word that follows `before` is not the first of its sentence. */
function isWithinSentence(before: string, word: string): boolean {
  const rest = before.slice(0, before.length - word.length).trimEnd()
  return rest !== '' && !/[.!?:\n"“”•*#>]$/.test(rest) && !/\n\s*$/.test(before.slice(0, before.length - word.length))
}

function lineAround(before: string, text: string, after: string): string {
  const start = before.slice(before.lastIndexOf('\n') + 1)
  const [end = ''] = after.split('\n', 1)
  return `${start}${text}${end}`
}

function looksLikeCode(line: string): boolean {
  const signs = line.match(
    /[{};]\s*$|=>|->|::|[!=<>]=|&&|\|\||\w\(|\w\[|\w_\w|[a-z][A-Z][a-z]|^\s*(#include|import |def |class |return\b|@\w)|\w\s=\s/g,
  )
  return (signs?.length ?? 0) >= 2
}
