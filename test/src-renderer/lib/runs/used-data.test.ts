import { expect, test } from 'vitest'
import { describeSource, optionWindows, requestedWindows } from '../../../../src-renderer/lib/runs/used-data.ts'

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
