import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { documents, root } from './markdown.ts'

/** The text between the markers of each name. */
export type Parts = Readonly<Record<string, () => string>>

const marked = /((?:<!--|\/\/) generated: ([\w-]+)[^\n]*\n)[\s\S]*?((?:<!--|\/\/) end\b)/g

export const readFile = (file: string) => readFileSync(join(root, file), 'utf8')

/** The names of the parts that a text contains. */
export const namesIn = (text: string) => [...text.matchAll(marked)].map((match) => match[2] ?? '')

/** The documents with generated tables. */
export const pages = documents.filter((document) => namesIn(readFile(document)).length > 0)

/** The text with every generated part up to date. Throws for a marker with an unknown name. */
export function withParts(text: string, parts: Parts): string {
  return text.replace(marked, (_, begin: string, name: string, end: string) => {
    const make = parts[name]
    if (!make) throw new Error(`There is no part "${name}" to generate. Choose from: ${Object.keys(parts).join(', ')}.`)
    return `${begin}${make()}\n${end}`
  })
}

/** Writes the generated parts of some files, and returns the files that changed. */
export function writeParts(files: readonly string[], parts: Parts): string[] {
  return files.filter((file) => {
    const text = readFile(file)
    const fresh = withParts(text, parts)
    if (fresh !== text) writeFileSync(join(root, file), fresh)
    return fresh !== text
  })
}

export const isFresh = (file: string, parts: Parts): boolean => withParts(readFile(file), parts) === readFile(file)

export const howToRefresh = (file: string) => `${file} is out of date. Run "npm run generate" and commit the result.`
