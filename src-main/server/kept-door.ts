import { mkdir, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { readSmallFile } from '#runtime/small-file.ts'
import { makeToken } from './guard/token.ts'

/** The last port and token of a data folder's servers, so that open pages reconnect after a restart. */
const keptDoor = z.object({ port: z.number().int().min(1).max(65_535), token: z.string().regex(/^[\w-]{43}$/) })
type KeptDoor = z.infer<typeof keptDoor>

const fileIn = (dataFolder: string) => join(dataFolder, 'door.json')

/** The stored values, or a new token and any port (0). A file that others can read is not trusted. */
export async function readKeptDoor(dataFolder: string): Promise<{ port: number; token: string }> {
  return (await readClosedFile(fileIn(dataFolder))) ?? { port: 0, token: makeToken() }
}

async function readClosedFile(file: string): Promise<KeptDoor | undefined> {
  try {
    const { mode } = await stat(file)
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) return undefined
    return keptDoor.safeParse(JSON.parse(await readSmallFile(file))).data
  } catch {
    return undefined
  }
}

export async function keepDoor(dataFolder: string, door: KeptDoor): Promise<void> {
  const file = fileIn(dataFolder)
  await mkdir(dataFolder, { recursive: true })
  await writeFile(`${file}.${process.pid}.part`, JSON.stringify(door), { mode: 0o600 })
  await rename(`${file}.${process.pid}.part`, file)
}
