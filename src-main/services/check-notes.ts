import { EspalierError } from '#contract/errors.ts'

/** Throws if notes are no longer those that an edit started from, so that nobody's text is overwritten unseen. */
export function checkNotes(
  { name, notes: current }: { name: string; notes: string },
  { notes, notesBefore }: { notes?: string | undefined; notesBefore?: string | undefined },
): void {
  if (notes === undefined || notesBefore === undefined || current === notesBefore || current === notes) return
  const shown = current === '' ? 'They are empty now.' : `They are now: “${current}”`
  throw new EspalierError('conflict', `The notes of “${name}” were changed elsewhere, so yours are not saved. ${shown}`, { notes: current })
}
