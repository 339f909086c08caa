import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect } from '#db/database.ts'
import { SmallDisk } from '../fixtures/small-disk.ts'
import { end, finishAlone, keepBusy, type Server, startServer } from './servers.ts'
import { type Killed, type Killing, requireWhole, statuses } from './subject.ts'

/** Something that keeps a server from writing to its history until it is taken away. */
interface Obstacle {
  put(): void
  takeAway(): void
}

/** Lets another program lock the history for up to four seconds. */
export async function killLocked(killing: Killing): Promise<Killed> {
  let other: ReturnType<typeof connect> | undefined
  return killObstructed(killing, {
    put() {
      other = connect(join(killing.folder, 'history.sqlite'))
      other.exec('BEGIN IMMEDIATE')
    },
    takeAway() {
      other?.exec('COMMIT')
      other?.close()
    },
  })
}

/** The size of the small disk. A fresh history and the server's notes take less than a tenth of it. */
const diskBytes = 24 * 2 ** 20

/** Fills a small disk that holds the data folder. Only the superuser can make one. */
export async function killFull(killing: Killing): Promise<Killed> {
  using disk = new SmallDisk(killing.folder, diskBytes)
  return await killObstructed(killing, { put: () => disk.fill(), takeAway: () => disk.empty() })
}

/**
 * Obstructs a server at a random moment of its work. In half of the cases the server is killed and started again meanwhile, in the others it
 * must survive. No run may fail.
 */
async function killObstructed(killing: Killing, { put, takeAway }: Obstacle): Promise<Killed> {
  const { seconds, random, count, folder } = killing
  const killed = { kills: 0, interrupted: 0, done: 0 }
  let server: Server | undefined
  // A server that must write before it can read waits for the end of the obstacle.
  let starting: Promise<Server> | undefined
  for (; killed.kills < count; killed.kills++) {
    server ??= await startServer(folder)
    await keepBusy(server.remote, killing)
    await pause(random() * seconds * 600)
    put()
    try {
      await pause(random() * 4000)
      if (random() < 0.5) {
        await end(server, 'SIGKILL')
        if (statuses(folder).includes('running')) killed.interrupted++
        server = undefined
        if (random() < 0.5) starting = startServer(folder)
      } else if (server.child.exitCode !== null || server.child.signalCode !== null)
        throw new Error(`The server ended with code ${server.child.exitCode}, signal ${server.child.signalCode}.`)
    } finally {
      takeAway()
    }
    server ??= await starting
    starting = undefined
    requireWhole(folder)
  }
  if (server) await end(server, 'SIGTERM')
  return { ...killed, done: await finishAlone(killing) }
}
