import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { isRunning } from '#runtime/lock.mjs'
import { readSmallJson } from '#runtime/small-file.ts'
import { writeWhole } from '#runtime/write-whole.ts'
import type { ServerAddress } from './address.ts'

/** The note that a running server leaves in its data folder, readable by its user only, so that commands on this machine find it. */
const note = z.object({ address: z.url(), token: z.string(), pid: z.number().int() })

const fileIn = (dataFolder: string) => join(dataFolder, 'server.json')

export function leaveNote(dataFolder: string, { address, token }: ServerAddress): void {
  writeWhole(fileIn(dataFolder), JSON.stringify({ address, token, pid: process.pid }))
}

/** Returns the server that uses a data folder, if one is running. */
export async function readNote(dataFolder: string): Promise<ServerAddress | undefined> {
  const found = await readSmallJson(note, fileIn(dataFolder))
  return found && isRunning(found.pid) ? { address: found.address, token: found.token } : undefined
}

/** Removes the note if it is ours. Another server may have replaced it since. */
export async function removeNote(dataFolder: string): Promise<void> {
  const found = await readSmallJson(note, fileIn(dataFolder))
  if (found?.pid === process.pid) await rm(fileIn(dataFolder), { force: true })
}
