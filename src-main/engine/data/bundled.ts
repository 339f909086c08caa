import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { type BundledId, bundledTitles } from '#contract/titles.ts'
import { readText } from '#engine/checkpoint/regular-file.ts'
import { resources } from '#runtime/resources.ts'

interface BundledText {
  readonly title: string
  readonly file: string
  readonly use: 'calibration' | 'evaluation'
  readonly summary: string
}

/** The bundled texts (`resources/texts`). Texts for evaluation are never used for pruning, only for measures. */
export const bundledTexts = {
  mixed: {
    title: bundledTitles.mixed,
    file: 'mixed-calibration.jsonl',
    use: 'calibration',
    summary: 'Prose, definitions, technical English, source code, 24 other languages, lists and numbers, evenly mixed.',
  },
  prose: { title: bundledTitles.prose, file: 'prose.txt', use: 'evaluation', summary: 'Chapters of a novel (Jane Austen, Persuasion).' },
  code: { title: bundledTitles.code, file: 'code.txt', use: 'evaluation', summary: 'C, from SQLite.' },
  spanish: { title: bundledTitles.spanish, file: 'spanish.txt', use: 'evaluation', summary: 'Reina-Valera of 1909, from the Gospels.' },
} as const satisfies Record<BundledId, BundledText>

export const bundledIds = Object.keys(bundledTexts) as BundledId[]

export function isBundledId(name: string): name is BundledId {
  return Object.hasOwn(bundledTexts, name)
}

/** The declarations of the bundled mixed text, by their language. */
export async function readDeclarations(): Promise<Map<string, string>> {
  const lines = (await readText(locateBundled('mixed'))).split('\n').filter((line) => line.includes('"language"'))
  const documents = lines.map((line) => JSON.parse(line) as { language: string; text: string })
  const ofLanguage = Map.groupBy(documents, ({ language }) => language)
  return new Map([...ofLanguage].map(([language, own]) => [language, own.map(({ text }) => text).join('\n\n')]))
}

/** The file of a bundled text. Throws if it is missing. */
export function locateBundled(id: BundledId): string {
  const file = join(resources, 'texts', bundledTexts[id].file)
  if (existsSync(file)) return file
  throw new EspalierError('not-found', `The bundled text "${id}" is missing from ${join('resources', 'texts')}. Install Espalier again.`)
}
