import { mkdir, open, readFile, rm, stat, utimes } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** A lock is renewed so often, and is a leftover when it was not renewed for so long: its process died and its number lives on. */
const renewSeconds = 5
const leftoverSeconds = 30
/** A process that was killed right after it made its lock did not write its number. */
const unsignedSeconds = 2

const inThisProcess = new Map<string, Promise<unknown>>()

/** Runs work alone for one path, in this process and among all of ours: the second one waits, then finds the file done. */
export async function withLock<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const earlier = inThisProcess.get(path)
  const mine = (async () => {
    await earlier?.catch(() => undefined)
    signal.throwIfAborted()
    await takeLock(path, signal)
    const renewal = setInterval(() => utimes(path, new Date(), new Date()).catch(() => undefined), renewSeconds * 1000)
    return work().finally(() => {
      clearInterval(renewal)
      return rm(path, { force: true })
    })
  })()
  inThisProcess.set(path, mine)
  return mine.finally(() => {
    if (inThisProcess.get(path) === mine) inThisProcess.delete(path)
  })
}

async function takeLock(path: string, signal: AbortSignal): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  while (!(await createLock(path))) {
    if (await isLeftover(path)) await rm(path, { force: true })
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

async function isLeftover(path: string): Promise<boolean> {
  const owner = Number(await readFile(path, 'utf8').catch(() => ''))
  const renewed = (await stat(path).catch(() => undefined))?.mtimeMs ?? Date.now()
  const patience = owner > 0 ? leftoverSeconds : unsignedSeconds
  return (owner > 0 && !isRunning(owner)) || Date.now() - renewed > patience * 1000
}

/** This process holds no lock here (`inThisProcess` waited for it), so its own number is a leftover of an earlier one. */
function isRunning(processId: number): boolean {
  if (processId === process.pid) return false
  try {
    process.kill(processId, 0)
    return true
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EPERM'
  }
}
