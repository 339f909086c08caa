import { expect, test } from 'vitest'
import { describeSource } from '../../../../src-renderer/lib/runs/used-data.ts'

test('a mix is named by its texts and their windows, not by how it is written in a request', () => {
  const part = (source: string, windows: number) => ({ source, windows, revision: null, sequenceLength: 512, seed: 0, hash: '' })
  const parts = [part('/texts/notes.txt', 60), part('mixed', 19)]
  expect(describeSource({ source: '/texts/notes.txt:0.75,mixed:0.25', parts })).toBe('notes.txt (60) and Mixed text (19)')
  expect(describeSource({ source: '/texts/notes.txt' })).toBe('notes.txt')
})
