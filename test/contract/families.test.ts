import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { families } from '#contract/families.ts'

test.each(Object.values(families))('the README lists $title with its examples', async ({ title, examples }) => {
  const readme = await readFile(join(import.meta.dirname, '../../README.md'), 'utf8')
  const rows = readme.split('\n').filter((line) => line.startsWith('|'))
  expect(rows.some((row) => row.split('|').map((cell) => cell.trim())[1] === title && row.includes(examples))).toBe(true)
})
