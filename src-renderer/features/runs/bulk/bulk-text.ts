import type { BulkKind, BulkResult, SelectionState, Undone } from '#contract/runs/bulk.ts'
import { formatInteger, formatPlural } from '../../../lib/format.ts'

const bulkVerbs: Readonly<Record<BulkKind, { verb: string; done: string }>> = {
  enqueue: { verb: 'Queue drafts', done: 'queued' },
  resume: { verb: 'Resume', done: 'resumed' },
  retry: { verb: 'Start over', done: 'queued again' },
  pause: { verb: 'Pause', done: 'paused' },
  cancel: { verb: 'Cancel', done: 'cancelled' },
  archive: { verb: 'Archive', done: 'archived' },
  unarchive: { verb: 'Restore', done: 'restored' },
  mark: { verb: 'Change', done: 'changed' },
}

/** `Cancel: 37 of 344`. The number is left out for one run, or if it is not known yet. */
export function bulkLabel(kind: BulkKind, state: Pick<SelectionState, 'runs' | 'able'> | null): string {
  const { verb } = bulkVerbs[kind]
  if (!state || state.runs <= 1) return verb
  return `${verb}: ${shareOf(state.able[kind], state.runs)}`
}

/** `Cancel 37 of 344 runs?` */
export function bulkQuestion(kind: 'cancel' | 'retry', { runs, able }: Pick<SelectionState, 'runs' | 'able'>): string {
  const share = able[kind] === runs ? formatPlural(runs, 'run') : `${formatInteger(able[kind])} of ${formatPlural(runs, 'run')}`
  return kind === 'cancel' ? `Cancel ${share}?` : `Start ${share} over?`
}

/** Asks whether the notes of several runs are to be replaced, and says how many runs have notes. Undefined for a single run. */
export function notesQuestion({ runs, noted }: Pick<SelectionState, 'runs' | 'noted'>): { label: string; note: string } | undefined {
  if (runs === 1) return undefined
  if (noted === 0) return { label: `Write the same notes to ${formatPlural(runs, 'run')}`, note: 'None has notes yet.' }
  const share = noted === runs ? 'All have' : `${formatInteger(noted)} of them ${noted === 1 ? 'has' : 'have'}`
  return { label: `Replace the notes of ${formatPlural(runs, 'run')}`, note: `${share} notes.` }
}

/** Says what was done, and to how many of the chosen runs. */
export function bulkOutcome(kind: BulkKind, { runs, changed, waited }: BulkResult): string {
  if (changed === 0) return `None of ${formatPlural(runs, 'run')} can be ${bulkVerbs[kind].done}`
  const share = changed === runs ? formatPlural(runs, 'run') : `${formatInteger(changed)} of ${formatPlural(runs, 'run')}`
  const left = kind === 'archive' && waited > 0 ? `. ${formatInteger(waited)} left the queue.` : ''
  const drafts = kind === 'unarchive' && waited > 0 ? `. ${formatInteger(waited)} had been queued and are drafts now.` : ''
  return `${share} ${bulkVerbs[kind].done}${left}${drafts}`
}

export function undoOutcome({ runs, left }: Undone): string {
  const done = `Undone for ${formatPlural(runs, 'run')}`
  return left === 0 ? done : `${done}. ${formatPlural(left, 'run')} changed since and ${left === 1 ? 'was' : 'were'} not restored.`
}

const shareOf = (some: number, all: number) => (some === all ? formatInteger(all) : `${formatInteger(some)} of ${formatInteger(all)}`)
