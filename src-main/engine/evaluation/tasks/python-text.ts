/** The characters that Python's `str` counts as white space. They differ a little from those of JavaScript's `trim`. */
const space = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'
const edges = new RegExp(`^[${space}]+|[${space}]+$`, 'g')
const end = new RegExp(`[${space}]+$`)

/** `str.strip()`. */
export function strip(text: string): string {
  return text.replace(edges, '')
}

/** Splits the white space off the end of a text. Returns both. */
export function splitTrailingSpace(text: string): [text: string, space: string] {
  const trailing = end.exec(text)?.[0] ?? ''
  return [text.slice(0, text.length - trailing.length), trailing]
}

/** `len(str)`: code points, not UTF-16 units. */
export function countCodePoints(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}

/** `str.capitalize()`: the first character in title case, **all the rest in lower case**. */
export function capitalize(text: string): string {
  const [first] = text
  if (first === undefined) return ''
  return titleCase(first) + text.toLowerCase().slice(first.toLowerCase().length)
}

/** Title case of one character. It differs from upper case for digraphs, ligatures, Greek letters with iota subscript, and Georgian. */
function titleCase(character: string): string {
  if (/[\u10d0-\u10ff]/.test(character)) return character
  const digraph = ['Ǆǅǆ', 'Ǉǈǉ', 'Ǌǋǌ', 'Ǳǲǳ'].find((forms) => forms.includes(character))
  if (digraph !== undefined) return digraph.charAt(1)
  if (character === 'ŉ') return 'ʼN'
  const decomposed = character.normalize('NFD')
  if (decomposed.includes('\u0345')) return (decomposed.charAt(0).toUpperCase() + decomposed.slice(1)).normalize('NFC')
  const [first = '', ...rest] = character.toUpperCase()
  return first + rest.join('').toLowerCase()
}
