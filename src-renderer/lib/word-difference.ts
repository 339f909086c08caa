import { diffWords } from 'diff'

/** Some consecutive words, and whether the other text lacks them. */
interface Stretch {
  text: string
  changed: boolean
}

/** Splits `to` into stretches that it shares with `from` and stretches that are new. Words that only `from` has are left out. */
export function wordDifference(from: string, to: string): Stretch[] {
  if (from === to) return [{ text: to, changed: false }]
  return diffWords(from, to).flatMap(({ value, removed, added }) => (removed ? [] : [{ text: value, changed: added === true }]))
}
