import { expect, test } from 'vitest'
import { flagNames } from '#cli/flags/flags.ts'
import { namesIn, pages, readPage, withTables } from './generated.ts'
import { tables } from './tables.ts'

test.each(pages)('the tables of %s are those of the code', (page) => {
  const text = readPage(page)
  expect(withTables(text) === text, `${page} differs from the code. Run "npm run docs" and commit the result.`).toBe(true)
})

test('every table has a place', () => {
  const placed = pages.flatMap((page) => namesIn(readPage(page)))
  expect(placed.toSorted()).toEqual(Object.keys(tables).toSorted())
})

test('a table is written between its markers, and only there', () => {
  const text = 'before\n<!-- generated: tasks -->\nold\n<!-- end -->\nbetween\n<!-- generated: gguf-types -->\n<!-- end -->\nafter\n'
  const fresh = withTables(text)
  expect(fresh).toMatch(/^before\n<!-- generated: tasks -->\n\| task +\| name +\|\n[\s\S]*\n<!-- end -->\nbetween\n/)
  expect(fresh).toMatch(/\| `F16` +\| .*\|\n[\s\S]*<!-- end -->\nafter\n$/)
  expect(fresh).not.toContain('old')
  expect(withTables(fresh)).toBe(fresh)
  expect(() => withTables('<!-- generated: nothing -->\n<!-- end -->')).toThrow('There is no table "nothing"')
})

test('the page of the command line names every flag', () => {
  const page = readPage('docs/command-line.md')
  expect(flagNames.filter((name) => !page.includes(`--${name}`))).toEqual([])
})
