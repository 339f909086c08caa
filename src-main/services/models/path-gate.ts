import { homedir } from 'node:os'
import { isAbsolute, resolve } from 'node:path'
import type { z } from 'zod'
import { EspalierError } from '#contract/errors.ts'
import { type NamedPlace, placesIn } from '#contract/places.ts'
import { confine, realOf } from './folders.ts'

/** Checks the paths in calls and stored runs. All of them go through this one gate. */
export interface PathGate {
  /** Throws `invalid` if a path may not be used as marked. Replaces `~` with the home folder, and resolves links in paths to write to. */
  settle(schema: z.ZodType, value: unknown): void
}

/** @param writable the folders that may be written to, read on each use */
export function pathGate(writable: () => readonly string[]): PathGate {
  return {
    settle(schema, value) {
      for (const place of placesIn(schema, value)) settlePlace(place, writable())
    },
  }
}

function settlePlace({ use, path: given, replace }: NamedPlace, writable: readonly string[]): void {
  const path = given.replace(/^~(?=$|[\\/])/, homedir)
  if (path !== given) replace(path)
  if (use === 'choose' && path !== '' && !isAbsolute(path))
    throw new EspalierError('invalid', `A folder must be an absolute path, not ${JSON.stringify(path)}.`)
  if (path === '') return
  refuseSystem(path)
  if (use === 'write') replace(confine(path, writable))
}

/** Rejects paths with a NUL byte and pseudo file systems (/proc, /sys, /dev). */
export function refuseSystem(path: string): void {
  if (path.includes('\0')) throw new EspalierError('invalid', `${JSON.stringify(path)} contains a NUL character, which paths cannot have.`)
  if (process.platform === 'win32') return
  const [, top] = realOf(resolve(path)).split('/')
  if (top === 'proc' || top === 'sys' || top === 'dev')
    throw new EspalierError('invalid', `${path} is in the pseudo file system /${top}. Choose another place.`)
}
