import { bundledTitles, datasetTitles, sampleTextTitles } from '../titles.ts'

const titles: ReadonlyMap<string, string> = new Map(Object.entries({ ...bundledTitles, ...datasetTitles }))

/** A text of the bundled sample model. */
const sampleText = /[\\/]sample-model[\\/](calibration|test)\.txt$/

/** The title of a text that ships with Espalier or has a name, or the last part of a path: what people see of a source, and strangers may. */
export function sourceName(source: string): string {
  const sample = sampleText.exec(source)?.[1] as keyof typeof sampleTextTitles | undefined
  return titles.get(source) ?? (sample && sampleTextTitles[sample]) ?? source.split(/[\\/]/).filter(Boolean).at(-1) ?? source
}
