import { expect, test } from 'vitest'
import type { SelectionState } from '#contract/runs/bulk.ts'
import {
  bulkLabel,
  bulkOutcome,
  bulkQuestion,
  notesQuestion,
  undoOutcome,
} from '../../../../../src-renderer/features/runs/bulk/bulk-text.ts'

const able: SelectionState['able'] = { enqueue: 0, resume: 3, retry: 307, pause: 37, cancel: 37, archive: 344, unarchive: 0, mark: 344 }

test('an action says how many of the chosen runs it is for, before and after', () => {
  expect(bulkLabel('cancel', { runs: 344, able })).toBe('Cancel: 37 of 344')
  expect(bulkLabel('archive', { runs: 344, able })).toBe('Archive: 344')
  expect(bulkLabel('archive', null)).toBe('Archive')
  expect(bulkQuestion('cancel', { runs: 344, able })).toBe('Cancel 37 of 344 runs?')
  expect(bulkOutcome('cancel', { runs: 344, changed: 37, waited: 37, undo: null })).toBe('37 of 344 runs cancelled')
  expect(bulkOutcome('archive', { runs: 344, changed: 344, waited: 12, undo: null })).toBe('344 runs archived. 12 left the queue.')
  expect(bulkOutcome('resume', { runs: 2, changed: 0, waited: 0, undo: null })).toBe('None of 2 runs can be resumed')
})

test('an undo says what it left', () => {
  expect(undoOutcome({ runs: 344, left: 0 })).toBe('Undone for 344 runs')
  expect(undoOutcome({ runs: 342, left: 2 })).toBe('Undone for 342 runs. 2 runs changed since and were not restored.')
})

test('notes of several runs are replaced only when asked for, and the question says how many runs have notes', () => {
  expect(notesQuestion({ runs: 1, noted: 1 })).toBeUndefined()
  expect(notesQuestion({ runs: 5, noted: 0 })).toEqual({ label: 'Write the same notes to 5 runs', note: 'None has notes yet.' })
  expect(notesQuestion({ runs: 5, noted: 1 })).toEqual({ label: 'Replace the notes of 5 runs', note: '1 of them has notes.' })
  expect(notesQuestion({ runs: 5, noted: 5 })?.note).toBe('All have notes.')
})
