import { expect, test } from 'vitest'
import { readDescription } from '../../../src-renderer/lib/import-file.ts'

test('a file is treated as a run only if it says that it is one', () => {
  expect(readDescription('{"format":"espalier run","name":"x"}')).toMatchObject({ name: 'x' })
  for (const text of ['{"format":"espalier experiment"}', 'null', '[]', 'not json']) expect(readDescription(text), text).toBeNull()
})
