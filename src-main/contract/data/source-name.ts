import { bundledTitles, datasetTitles, sampleTextTitles } from '../titles.ts'

const titles: ReadonlyMap<string, string> = new Map(Object.entries({ ...bundledTitles, ...datasetTitles }))

/** A text of the bundled sample model. */
const sampleText = /[\\/]sample-model[\\/](calibration|test)\.txt$/

/** Returns the title of a named or bundled text, or else the last part of the path. It reveals no folders, so it can be shown to others. */
export function sourceName(source: string): string {
  const sample = sampleText.exec(source)?.[1] as keyof typeof sampleTextTitles | undefined
  return titles.get(source) ?? (sample && sampleTextTitles[sample]) ?? source.split(/[\\/]/).filter(Boolean).at(-1) ?? source
}
