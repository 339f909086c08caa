import { expect, test } from 'vitest'
import { z } from 'zod'
import { explainIssues, readWith } from '#contract/explain-issue.ts'

const schema = z.object({ name: z.string().max(10) })

test('a value whose length cannot be compared is reported as a wrong one', () => {
  const value = { name: { length: { toString: 2 } } }
  expect(() => schema.safeParse(value)).toThrow(TypeError)
  const read = readWith(schema, value)
  expect(read.success).toBe(false)
  expect(explainIssues(read.error as z.ZodError, value).map(({ message }) => message)).toEqual([
    'This is {"name":{"length":{"toString":2}}}. Part of the value has a length that is not a number.',
  ])
})

test('other values are read as the schema reads them', () => {
  expect(readWith(schema, { name: 'x' })).toEqual({ success: true, data: { name: 'x' } })
  expect(readWith(schema, { name: 7 }).error?.issues).toHaveLength(1)
})

test('a missing field that a rule of its own refuses is missing, not undefined', () => {
  const ruled = z.object({ prompt: z.unknown().refine((value) => typeof value === 'string', 'Give a text.') })
  const read = readWith(ruled, {})
  expect(explainIssues(read.error as z.ZodError, {})).toEqual([{ field: 'prompt', message: 'prompt is missing. Give a text.' }])
})
