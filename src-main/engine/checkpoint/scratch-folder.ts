import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const prefix = 'espalier-weights-'

/**
 * Creates a temporary folder of this process, which the caller removes. If the process is killed first, `clearScratchFolders` removes it
 * later.
 */
export async function makeScratchFolder(): Promise<string> {
  await clearScratchFolders()
  return mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`))
}

/** Removes the temporary folders of processes that no longer run. */
export async function clearScratchFolders(): Promise<void> {
  for (const name of await readdir(tmpdir()).catch(() => [])) {
    const pid = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : process.pid
    if (Number.isInteger(pid) && !isAlive(pid)) await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {})
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
