import { bundledTitles, datasetTitles, sampleTextTitles } from '../titles.ts'
import { shownName } from '../words.ts'

const titles: ReadonlyMap<string, string> = new Map(Object.entries({ ...bundledTitles, ...datasetTitles }))

/** A text of the bundled sample model. */
const sampleText = /[\\/]sample-model[\\/](calibration|test)\.txt$/

/** Returns the title of a named or bundled text, or else the last part of the path. It reveals no folders, so it can be shown to others. */
export function sourceName(source: string): string {
  const sample = sampleText.exec(source)?.[1] as keyof typeof sampleTextTitles | undefined
  const own = source.split(/[\\/]/).filter(Boolean).at(-1) ?? source
  return titles.get(source) ?? (sample && sampleTextTitles[sample]) ?? shownName(own)
}

/** Words in names that distinguish splits of one corpus, or pieces of a file. */
const split = /^(train|training|val|valid|validation|dev|test|eval|evaluation|calib|calibration|held|out|heldout|of|\d{4,})$/

/** Returns the corpus of text by its name or path: `c4` for `c4-train` and `c4-val`. A file that names only its split gets its folder's. */
export function corpusOf(source: string): string {
  const names = source.toLowerCase().split(/[\\/]/).filter(Boolean).reverse()
  const [file = '', ...folders] = names
  const stem = names.length > 1 ? file.replace(/(\.[a-z]\w*)+$/, '') : file
  const found = [stem, ...folders].map(withoutSplits).find((name) => name !== '')
  return found ?? source.toLowerCase()
}

const withoutSplits = (name: string): string =>
  name
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== '' && !split.test(word))
    .join('')
