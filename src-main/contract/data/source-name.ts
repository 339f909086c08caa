import { bundledTitles, datasetTitles } from '../titles.ts'

const titles: ReadonlyMap<string, string> = new Map(Object.entries({ ...bundledTitles, ...datasetTitles }))

/** The title of a named text, or the last part of a path: what people see of a source, and strangers may. */
export function sourceName(source: string): string {
  return titles.get(source) ?? source.split(/[\\/]/).filter(Boolean).at(-1) ?? source
}
