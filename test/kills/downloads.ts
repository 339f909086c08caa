import { createHash } from 'node:crypto'
import { globSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { ModelEntry, Transfer } from '#contract/models/models.ts'
import { openHistory } from '#db/history.ts'
import { commit, type FakeHub, gitSha1, startFakeHub } from '../hub/fake-hub.ts'
import { type Command, type Killed, type Killing, killHard, requireWhole, startCommand } from './subject.ts'

/** The large file arrives over about this many seconds, so that kills hit it. */
const transferSeconds = 2
const chunkMilliseconds = 20

const name = 'owner/name'
const cacheOf = (folder: string) => join(folder, 'cache')

/** Adds a model by its name on the hub, and kills the command while files arrive. */
export async function killDownloads({ model, random, count, folder }: Killing): Promise<Killed> {
  const killed = { kills: 0, interrupted: 0, done: 0 }
  const files = Object.fromEntries(readdirSync(model).map((file) => [file, readFileSync(join(model, file))]))
  const hub = await startSlowHub(files)
  try {
    while (killed.kills < count || killed.done === 0) {
      const command = startDownload(folder, hub)
      if (random() < 0.8) await untilArriving(folder, command)
      await Promise.race([pause(random() * 1000 * transferSeconds), command.printed.catch(() => {})])
      if (killed.kills < count && (await killHard(command.child))) {
        killed.kills++
        if (unfinishedBytes(folder) > 0) killed.interrupted++
      } else {
        requireDownloaded(folder, JSON.parse(await command.printed) as ModelEntry[], files)
        killed.done++
      }
      requireBlobs(folder)
      requireWhole(folder)
      if (killed.done > 0 && killed.kills < count) rmSync(folder, { recursive: true, force: true })
    }
  } finally {
    await hub.close()
  }
  if (!hub.seen.some(({ server, range }) => server === 'store' && /^bytes=[1-9]/.test(range ?? '')))
    throw new Error('No download resumed where it was cut.')
  return killed
}

async function startSlowHub(files: Record<string, Buffer>): Promise<FakeHub> {
  const hub = await startFakeHub({ [name]: { commit, files } })
  const largest = Math.max(...Object.values(files).map(({ length }) => length))
  const pace = { bytes: Math.ceil((largest * chunkMilliseconds) / (1000 * transferSeconds)), milliseconds: chunkMilliseconds }
  hub.faults.push({
    when: ({ server, method }) => server === 'store' && method === 'GET',
    fault: { pace },
    times: Number.POSITIVE_INFINITY,
  })
  return hub
}

const startDownload = (folder: string, { endpoint }: FakeHub): Command =>
  startCommand(['models', 'add', name, '--json'], folder, { HF_ENDPOINT: endpoint, HF_HUB_CACHE: cacheOf(folder), HF_HUB_OFFLINE: '' })

/** The number of bytes of unfinished files. One may be finished, and renamed, before its size is read. */
const unfinishedBytes = (folder: string) =>
  globSync('**/*.incomplete', { cwd: cacheOf(folder) })
    .map((file) => statSync(join(cacheOf(folder), file), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, bytes) => sum + bytes, 0)

async function untilArriving(folder: string, { child }: Command): Promise<void> {
  const before = unfinishedBytes(folder)
  while (child.exitCode === null && child.signalCode === null && unfinishedBytes(folder) <= before) await pause(20)
}

/** Throws if a file has the name of a finished file but not its hash. */
function requireBlobs(folder: string): void {
  for (const file of globSync('**/blobs/*', { cwd: cacheOf(folder) }).filter((path) => !path.endsWith('.incomplete'))) {
    const bytes = readFileSync(join(cacheOf(folder), file))
    const hash = basename(file)
    if (hash !== gitSha1(bytes) && hash !== createHash('sha256').update(bytes).digest('hex')) throw new Error(`${file} is damaged.`)
  }
}

/** Throws unless the model is in the library once, with the hub's files, and no transfer of it is left. */
function requireDownloaded(folder: string, added: readonly ModelEntry[], files: Record<string, Buffer>): void {
  const { path = '' } = added[0] ?? {}
  const wrong = Object.entries(files).filter(([file, bytes]) => !bytes.equals(readFileSync(join(path, file))))
  if (wrong.length > 0) throw new Error(`Downloaded files differ from the hub's: ${wrong.map(([file]) => file).join(', ')}`)
  const history = openHistory(folder)
  try {
    const owned = history.models.list().filter(({ source }) => source === name)
    if (owned.length !== 1) throw new Error(`The library has the model ${owned.length} times.`)
    const left = history.transfers.list().filter(({ status }: Transfer) => status !== 'done')
    if (left.length > 0) throw new Error(`${left.length} transfers of the downloaded model are left: ${left[0]?.status}.`)
  } finally {
    history.close()
  }
}
