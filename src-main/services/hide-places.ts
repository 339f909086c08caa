import { homedir } from 'node:os'
import { posix, win32 } from 'node:path'
import { sourceName } from '#contract/data/source-name.ts'

/** The fields of documents that may hold a file or folder of this machine. */
const placeFields = new Set(['model', 'source', 'folder', 'localFolder', 'path'])

/** The document with files and folders of this machine by their last names, wherever its texts mention them. For documents that others read. */
export function hidePlaces<Document>(document: Document): Document {
  const places = [...placesIn(document)].sort((a, b) => b.length - a.length)
  const home = homedir()
  const hide = (text: string) => {
    const named = places.reduce((left, place) => left.replaceAll(place, sourceName(place)), text)
    return home.length > 1 ? named.replaceAll(home, '~') : named
  }
  return mapTexts(document, hide) as Document
}

function placesIn(value: unknown, found = new Set<string>()): Set<string> {
  if (typeof value !== 'object' || value === null) return found
  for (const [name, inner] of Object.entries(value)) {
    if (typeof inner === 'string' && placeFields.has(name) && isPlace(inner)) found.add(inner)
    else placesIn(inner, found)
  }
  return found
}

const isPlace = (text: string): boolean => text.length > 1 && (posix.isAbsolute(text) || win32.isAbsolute(text))

function mapTexts(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === 'string') return change(value)
  if (Array.isArray(value)) return value.map((inner) => mapTexts(inner, change))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, mapTexts(inner, change)]))
}
