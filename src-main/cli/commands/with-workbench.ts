import { stdin } from 'node:process'
import { EspalierError } from '#contract/errors.ts'
import { parseAddress, type ServerAddress } from '#server/address.ts'
import { askInTerminal } from '#server/ask-in-terminal.ts'
import { connectWorkbench } from '#server/client.ts'
import type { Door } from '#server/door.ts'
import { readTokenFile, readTokenFrom } from '#server/guard/token.ts'
import { readNote } from '#server/note.ts'
import { defaultDataFolder } from '#services/models/folders.ts'
import type { CommonValues } from './read-flags.ts'

export interface CommandDoor extends Door {
  /** Computes one run in this process. Absent if a server computes the runs. */
  runNow?: (id: string) => Promise<void>
}

/**
 * Calls `work` with the server that was named, else with the one that uses the data folder, else with a workbench that is open in this
 * process until `work` ends. Such a workbench leaves the queue alone, and looks for GPUs only if the command `computes`.
 */
export async function withWorkbench<T>(
  values: CommonValues,
  work: (door: CommandDoor) => Promise<T>,
  { computes = false } = {},
): Promise<T> {
  const server = await serverOf(values)
  const workbench = server ? await connectWorkbench(server) : await openHere(values.data, computes)
  try {
    return await work(workbench)
  } finally {
    await workbench.close()
  }
}

/** Imports the workbench on demand, because a command that talks to a server needs no history and no SQLite. */
async function openHere(folder: string | undefined, computes: boolean): Promise<CommandDoor & { close(): Promise<void> }> {
  const { openWorkbench } = await import('#services/workbench.ts')
  return openWorkbench({ folder, worksQueue: false, mayBegin: askInTerminal, patience: 'command', ...(computes ? {} : { devices: [] }) })
}

/** Whether a server was named, which may have other files. One that uses this data folder has the files of this machine. */
export const isRemote = ({ server }: CommonValues): boolean => (server ?? process.env.ESPALIER_SERVER) !== undefined

async function serverOf(values: CommonValues): Promise<ServerAddress | undefined> {
  const { server, 'token-file': file } = values
  const named = server ?? process.env.ESPALIER_SERVER
  if (named === undefined) return readNote(values.data ?? defaultDataFolder())
  if (server?.includes('#token='))
    throw new EspalierError(
      'usage',
      '--server has a token, which every user of this machine can read in the list of processes. Give the address alone, and the token with --token-file FILE, with --token-file - on standard input, or in ESPALIER_TOKEN. Or put the whole line into ESPALIER_SERVER.',
    )
  if (file !== undefined) return parseAddress(named, file === '-' ? await readTokenFrom(stdin) : await readTokenFile(file))
  return parseAddress(named, process.env.ESPALIER_TOKEN || undefined)
}
