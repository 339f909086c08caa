import { isAbsolute, resolve } from 'node:path'
import type { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { type NamedPlace, placesIn } from '#contract/places.ts'
import { confine, realOf } from './folders.ts'

/** The one gate for places that calls and stored runs name. */
export interface PathGate {
  /** Throws `invalid` for a place that may not be used so; what will be written gets its real path in the value. */
  settle(schema: z.ZodType, value: unknown): void
}

/** @param writable the folders inside of which others may be made, asked each time */
export function pathGate(writable: () => readonly string[]): PathGate {
  return {
    settle(schema, value) {
      for (const place of placesIn(schema, value)) settlePlace(place, writable())
    },
  }
}

function settlePlace({ use, path, replace }: NamedPlace, writable: readonly string[]): void {
  if (use === 'choose' && path !== '' && !isAbsolute(path))
    throw new EspalierError('invalid', `A folder must be given by its whole path, not as ${JSON.stringify(path)}.`)
  if (path === '') return
  refuseSystem(path)
  if (use === 'write') replace(confine(path, writable))
}

/** Throws for what no file of a person can be: a path with a zero, and what the system shows as files without there being any. */
export function refuseSystem(path: string): void {
  if (path.includes('\0')) throw new EspalierError('invalid', `${JSON.stringify(path)} holds a zero character, which no path has.`)
  if (process.platform === 'win32') return
  const [, top] = realOf(resolve(path)).split('/')
  if (top === 'proc' || top === 'sys' || top === 'dev')
    throw new EspalierError('invalid', `${path} lies in /${top}, where the system shows itself and nothing is kept. Choose another place.`)
}
