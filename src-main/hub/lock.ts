import { mkdir, open, readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

const inThisProcess = new Map<string, Promise<unknown>>()

/** Runs work alone for one path, in this process and among all of ours: the second one waits, then finds the file done. */
export async function withLock<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const earlier = inThisProcess.get(path)
  const mine = (async () => {
    await earlier?.catch(() => undefined)
    signal.throwIfAborted()
    await takeLock(path, signal)
    return work().finally(() => rm(path, { force: true }))
  })()
  inThisProcess.set(path, mine)
  return mine.finally(() => {
    if (inThisProcess.get(path) === mine) inThisProcess.delete(path)
  })
}

async function takeLock(path: string, signal: AbortSignal): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  while (!(await createLock(path))) {
    const owner = Number(await readFile(path, 'utf8').catch(() => ''))
    if (owner > 0 && !isRunning(owner)) await rm(path, { force: true })
    else await pause(500, undefined, { signal })
  }
}

async function createLock(path: string): Promise<boolean> {
  const handle = await open(path, 'wx').catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'EEXIST') return undefined
    throw thrown
  })
  await handle?.writeFile(String(process.pid))
  await handle?.close()
  return handle !== undefined
}

/** This process holds no file lock here: `inThisProcess` waited for it, so its own number is a leftover of an earlier one. */
function isRunning(processId: number): boolean {
  if (processId === process.pid) return false
  try {
    process.kill(processId, 0)
    return true
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EPERM'
  }
}
