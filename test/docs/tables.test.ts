import { expect, test } from 'vitest'
import { flagNames } from '#cli/flags/flags.ts'
import { howToRefresh, isFresh, namesIn, pages, readFile, withParts } from './generated.ts'
import { tables } from './tables.ts'

test.each(pages)('the tables of %s match the code', (page) => {
  expect(isFresh(page, tables), howToRefresh(page)).toBe(true)
})

test('every table has a place', () => {
  const placed = pages.flatMap((page) => namesIn(readFile(page)))
  expect(placed.toSorted()).toEqual(Object.keys(tables).toSorted())
})

test('a table is written between its markers, and only there', () => {
  const text = 'before\n<!-- generated: tasks -->\nold\n<!-- end -->\nbetween\n<!-- generated: gguf-types -->\n<!-- end -->\nafter\n'
  const fresh = withParts(text, tables)
  expect(fresh).toMatch(/^before\n<!-- generated: tasks -->\n\| task +\| name +\|\n[\s\S]*\n<!-- end -->\nbetween\n/)
  expect(fresh).toMatch(/\| `F16` +\| .*\|\n[\s\S]*<!-- end -->\nafter\n$/)
  expect(fresh).not.toContain('old')
  expect(withParts(fresh, tables)).toBe(fresh)
  expect(() => withParts('<!-- generated: nothing -->\n<!-- end -->', tables)).toThrow('There is no part "nothing"')
})

test('the page of the command line names every flag', () => {
  const page = readFile('docs/command-line.md')
  expect(flagNames.filter((name) => !page.includes(`--${name}`))).toEqual([])
})
