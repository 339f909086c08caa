import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tables } from './tables.ts'

export const root = join(import.meta.dirname, '../..')

/** README.md and the pages of docs/, as paths from the root. */
export const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
]

export const readPage = (page: string) => readFileSync(join(root, page), 'utf8')

const marked = /(<!-- generated: ([\w-]+) -->\n)[\s\S]*?(<!-- end -->)/g

/** The names of the tables that a text has places for. */
export const namesIn = (text: string) => [...text.matchAll(marked)].map((match) => match[2] ?? '')

/** The text with every generated table as the code has it now. Throws for a marker with an unknown name. */
export function withTables(text: string): string {
  return text.replace(marked, (_, begin: string, name: string, end: string) => {
    const make = tables[name]
    if (!make) throw new Error(`There is no table "${name}". test/docs/tables.ts has: ${Object.keys(tables).join(', ')}.`)
    return `${begin}${make()}\n${end}`
  })
}

/** Writes all tables into their pages, and returns the pages that changed. */
export function writeTables(): string[] {
  return pages.filter((page) => {
    const text = readPage(page)
    const fresh = withTables(text)
    if (fresh !== text) writeFileSync(join(root, page), fresh)
    return fresh !== text
  })
}
