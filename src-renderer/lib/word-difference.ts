import { diffWords } from 'diff'

/** A stretch of a text, and whether it differs from the other text. */
interface Stretch {
  text: string
  changed: boolean
}

/** Splits a text into stretches that equal another text or differ from it. */
export function wordDifference(from: string, to: string): Stretch[] {
  if (from === to) return [{ text: to, changed: false }]
  return diffWords(from, to).flatMap(({ value, removed, added }) => (removed ? [] : [{ text: value, changed: added === true }]))
}
