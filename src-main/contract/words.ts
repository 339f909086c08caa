/** `1 block`, `3 blocks`. */
export const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

/** Breaks words into lines of at most `width` characters. A longer word gets a line of its own. */
export function wrapWords(words: readonly string[], width: number): string[] {
  const lines: string[] = ['']
  for (const word of words) {
    const last = lines.at(-1) ?? ''
    if (last !== '' && last.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`
  }
  return lines
}

/**
 * Returns a name without what could rearrange the text around it: line breaks and other control characters become spaces, and characters
 * that change the direction of text become `�`.
 */
export const shownName = (text: string): string =>
  text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd')

export const upperFirst = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

/** Abbreviations such as KV keep their capitals. */
export const lowerFirst = (text: string): string => text.replace(/^[A-Z](?=[a-z ])/, (first) => first.toLowerCase())
