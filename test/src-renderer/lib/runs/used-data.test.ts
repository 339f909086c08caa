import { expect, test } from 'vitest'
import { describeSource, fewerWindows, optionWindows, requestedWindows } from '../../../../src-renderer/lib/runs/used-data.ts'

test('a mix is named by its texts and their windows, not by how it is written in a request', () => {
  const part = (source: string, windows: number) => ({ source, windows, revision: null, sequenceLength: 512, seed: 0, hash: '' })
  const parts = [part('/texts/notes.txt', 60), part('mixed', 19)]
  expect(describeSource({ source: '/texts/notes.txt:0.75,mixed:0.25', parts })).toBe('notes.txt (60) and Mixed text (19)')
  expect(describeSource({ source: '/texts/notes.txt' })).toBe('notes.txt')
})

test('windows that were asked for and not used are not shown as used', () => {
  expect(optionWindows(32, { windows: 8 })).toBe('8 used of 32')
  expect(optionWindows(1, { windows: 8 })).toBe('1')
  expect(optionWindows(32, null)).toBe('32')
  expect(requestedWindows(8, { windows: 1 })).toBe(', 8 requested')
  expect(requestedWindows(8, { windows: 8 })).toBe('')
  expect(requestedWindows(undefined, { windows: 8 })).toBe('')
})

test('a run says beside its results where it used fewer windows than it was asked for', () => {
  const used = (source: string, windows: number) => ({ source, revision: null, sequenceLength: 64, windows, seed: 0, hash: source })
  const data = { source: 'prose', sequenceLength: 64, windows: 8 }
  const request = { calibration: { ...data, source: 'c4' }, measures: [{ kind: 'perplexity' as const, name: 'prose', data }] }
  expect(fewerWindows({ calibration: used('c4', 1), evaluation: [used('prose', 5)] }, request)).toBe(
    'Calibrated on 1 of 8 windows. Measured on 5 of 8 windows of Prose.',
  )
  expect(fewerWindows({ calibration: used('c4', 8), evaluation: [used('prose', 8)] }, request)).toBe('')
})
