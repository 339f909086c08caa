import { homedir } from 'node:os'
import { posix, win32 } from 'node:path'
import { sourceName } from '#contract/data/source-name.ts'

/** The fields of documents that may hold a file or folder of this machine. */
const placeFields = new Set(['model', 'source', 'folder', 'localFolder', 'path'])

/**
 * Replaces paths of this machine with the names of their files and folders, wherever the document's strings mention them, because others
 * will read the document. The home folder becomes `~`.
 */
export function hidePlaces<Document>(document: Document): Document {
  const names = new Map([...placesIn(document)].map((place) => [place, sourceName(place)]))
  if (homedir().length > 1) names.set(homedir(), '~')
  for (const [place, name] of [...names]) names.set(inJson(place), name)
  const longestFirst = [...names.keys()].sort((a, b) => b.length - a.length).map(RegExp.escape)
  // A path at the end of a web address, or at the beginning of a longer name, is not a match.
  const place = new RegExp(`(?<![\\p{L}\\p{N}_.-])(?:${longestFirst.join('|')})(?:(?<=[\\\\/])|(?![\\p{L}\\p{N}_-]))`, 'gu')
  const hide = (text: string) => text.replace(place, (found) => names.get(found) ?? found)
  return names.size > 0 ? (mapTexts(document, hide) as Document) : document
}

/** The path as it appears inside a JSON string, where each backslash is doubled. */
const inJson = (text: string): string => JSON.stringify(text).slice(1, -1)

function placesIn(value: unknown, found = new Set<string>()): Set<string> {
  if (typeof value !== 'object' || value === null) return found
  for (const [name, inner] of Object.entries(value)) {
    if (typeof inner === 'string' && placeFields.has(lastPart(name)) && isPlace(inner)) found.add(inner)
    else if (typeof inner === 'string' && name.endsWith('.mix')) placesIn(JSON.parse(inner), found)
    else placesIn(inner, found)
  }
  return found
}

/** Flat parameters are named by all of their fields: `calibration.source`. */
const lastPart = (name: string): string => name.slice(name.lastIndexOf('.') + 1)

const isPlace = (text: string): boolean => text.length > 1 && (posix.isAbsolute(text) || win32.isAbsolute(text))

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((inner) => mapTexts(inner, change))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, mapTexts(inner, change)]))
}
