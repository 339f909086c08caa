import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readSmallFile } from '#runtime/small-file.ts'
import type { ServerAddress } from './address.ts'

/** Written by a running server to its data folder, readable by its user only, so that commands on this machine find it. */
const note = z.object({ address: z.url(), token: z.string(), pid: z.number().int() })

const fileIn = (dataFolder: string) => join(dataFolder, 'server.json')

export async function leaveNote(dataFolder: string, { address, token }: ServerAddress): Promise<void> {
  const file = fileIn(dataFolder)
  await mkdir(dataFolder, { recursive: true })
  await writeFile(`${file}.${process.pid}.part`, JSON.stringify({ address, token, pid: process.pid }), { mode: 0o600 })
  await rename(`${file}.${process.pid}.part`, file)
}

/** The server that is running on a data folder, if there is one. */
export async function readNote(dataFolder: string): Promise<ServerAddress | undefined> {
  const text = await readSmallFile(fileIn(dataFolder)).catch(() => undefined)
  const read = note.safeParse(parse(text))
  return read.success && isRunning(read.data.pid) ? { address: read.data.address, token: read.data.token } : undefined
}

/** Removes only our own note: another server may have started since. */
export async function removeNote(dataFolder: string): Promise<void> {
  const read = note.safeParse(parse(await readSmallFile(fileIn(dataFolder)).catch(() => undefined)))
  if (read.success && read.data.pid === process.pid) await rm(fileIn(dataFolder), { force: true })
}

function parse(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '')
  } catch {
    return undefined
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EPERM'
  }
}
