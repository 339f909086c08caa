import { diffWords } from 'diff'

/** A stretch of a text, and whether it is other than in the text that it is compared with. */
interface Stretch {
  text: string
  changed: boolean
}

/** A text in stretches by what differs from another. */
export function wordDifference(from: string, to: string): Stretch[] {
  if (from === to) return [{ text: to, changed: false }]
  return diffWords(from, to).flatMap(({ value, removed, added }) => (removed ? [] : [{ text: value, changed: added === true }]))
}
