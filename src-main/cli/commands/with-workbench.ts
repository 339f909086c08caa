import { parseAddress, type ServerAddress } from '#server/address.ts'
import { connectWorkbench, type RemoteWorkbench } from '#server/client.ts'
import type { Door } from '#server/door.ts'
import { readNote } from '#server/note.ts'
import { readTokenFile } from '#server/token.ts'
import { defaultDataFolder } from '#services/folders.ts'
import type { CommonValues } from './flags.ts'

export interface CommandDoor extends Door {
  /** Whether the runs go on when this command has ended. */
  staysOpen: boolean
}

/** Asks the server that was named, else the one that works on the data folder now, else opens the workbench here for as long as it takes. */
export async function withWorkbench<T>(values: CommonValues, work: (door: CommandDoor) => Promise<T>): Promise<T> {
  const server = await serverOf(values)
  const workbench = server ? await connectWorkbench(server) : await openHere(values.data)
  try {
    return await work({ call: workbench.call, subscribe: workbench.subscribe, staysOpen: server !== undefined })
  } finally {
    await workbench.close()
  }
}

/** Loaded when needed: asking a server takes no history, and so no SQLite. */
async function openHere(dataFolder: string | undefined): Promise<RemoteWorkbench> {
  const { openWorkbench } = await import('#services/workbench.ts')
  return openWorkbench(dataFolder === undefined ? {} : { dataFolder })
}

async function serverOf(values: CommonValues): Promise<ServerAddress | undefined> {
  const named = values.server ?? process.env.ESPALIER_SERVER
  if (named === undefined) return readNote(values.data ?? defaultDataFolder())
  const file = values['token-file']
  return parseAddress(named, file === undefined ? undefined : await readTokenFile(file))
}
