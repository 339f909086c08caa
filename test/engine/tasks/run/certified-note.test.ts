import { expect, test } from 'vitest'
import { certifiedNote } from '#engine/tasks/run/run.ts'

test('the note on certified choices has one round and one candidate in the singular', () => {
  expect(certifiedNote({ rounds: 1, candidates: 24, rescored: 1 })).toBe(
    '24 candidates in 1 round were ranked with bfloat16 products. The one that could still win, by the errors measured on the way, was scored again as in float32.',
  )
  expect(certifiedNote({ rounds: 12, candidates: 1200, rescored: 31 })).toMatch(
    /^1,200 candidates in 12 rounds were .* The 31 that .* were scored/,
  )
})
