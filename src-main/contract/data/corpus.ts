import type { UsedData } from './used-data.ts'

/** Words that tell splits of one corpus, or pieces of a file, apart. */
const split = /^(train|training|val|valid|validation|dev|test|eval|evaluation|calib|calibration|held|out|heldout|of|\d{4,})$/

/** The corpus of a text, from its name or path: `c4-train` and `c4-val` are parts of `c4`. A file that only names its split gets its folder's. */
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

/** The corpora that windows were taken from. */
export const corporaOf = ({ source, parts = [] }: Pick<UsedData, 'source' | 'parts'>): string[] =>
  (parts.length > 0 ? parts : [{ source }]).map((part) => corpusOf(part.source))
