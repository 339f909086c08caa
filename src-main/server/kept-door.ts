import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readSmallJson } from '#runtime/small-file.ts'
import { writeWhole } from '#runtime/write-whole.ts'
import { makeToken } from './guard/token.ts'

/** The last port and token of a data folder's servers, so that open pages reconnect after a restart. */
const keptDoor = z.object({ port: z.number().int().min(1).max(65_535), token: z.string().regex(/^[\w-]{43}$/) })

const fileIn = (dataFolder: string) => join(dataFolder, 'door.json')

/** Returns the stored values, or else a new token and port 0 (any). A file that others can read is not trusted. */
export async function readKeptDoor(dataFolder: string): Promise<{ port: number; token: string }> {
  const file = fileIn(dataFolder)
  const mode = (await stat(file).catch(() => undefined))?.mode ?? 0
  const isClosed = process.platform === 'win32' || (mode & 0o077) === 0
  return (isClosed ? await readSmallJson(keptDoor, file) : undefined) ?? { port: 0, token: makeToken() }
}

export function keepDoor(dataFolder: string, door: z.infer<typeof keptDoor>): void {
  writeWhole(fileIn(dataFolder), JSON.stringify(door))
}
