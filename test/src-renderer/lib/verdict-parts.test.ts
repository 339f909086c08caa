import { expect, test } from 'vitest'
import { verdictParts } from '../../../src-renderer/lib/verdict-parts.ts'

test('a verdict is split by kind of text, and into what it says and why', () => {
  expect(verdictParts('For your a.txt: Do not prune. At 3.5 MB, x wins. For other text (Prose): At 1 MB, y and z do not differ.')).toEqual([
    { lead: 'For your a.txt: Do not prune.', rest: 'At 3.5 MB, x wins.' },
    { lead: 'For other text (Prose): At 1 MB, y and z do not differ.', rest: '' },
  ])
})
