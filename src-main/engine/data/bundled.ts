import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import { type BundledId, bundledTitles } from '#contract/titles.ts'
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

/** The file of a bundled text. Throws if it is missing. */
export function locateBundled(id: BundledId): string {
  const file = join(resources, 'texts', bundledTexts[id].file)
  if (existsSync(file)) return file
  throw new EspalierError('not-found', `The bundled text "${id}" is missing from ${join('resources', 'texts')}. Install Espalier again.`)
}
