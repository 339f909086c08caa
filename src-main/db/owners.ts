import { hostname } from 'node:os'
import type { Database } from './database.ts'
import { immediately } from './database.ts'

/** An owner that has not been heard of for this long is dead, whatever its process number says. */
export const silenceMilliseconds = 60_000

interface OwnerRow {
  id: string
  pid: number
  host: string
  heartbeat_at: number
  works_queue: number
}

/** The processes that have this history open, and which of them works the queue. */
export function ownersTable(db: Database) {
  const insert = db.prepare('INSERT OR REPLACE INTO owners(id, pid, host, started_at, heartbeat_at) VALUES (?, ?, ?, ?, ?)')
  const beat = db.prepare('UPDATE owners SET heartbeat_at = ? WHERE id = ?')
  const all = db.prepare('SELECT id, pid, host, heartbeat_at, works_queue FROM owners')
  const remove = db.prepare('DELETE FROM owners WHERE id = ?')
  const setQueue = db.prepare('UPDATE owners SET works_queue = ? WHERE id = ?')

  function dead(now: number): string[] {
    return (all.all() as OwnerRow[]).filter((owner) => !isAlive(owner, now)).map(({ id }) => id)
  }

  return {
    dead,
    /** Processes that have this history open besides one. */
    others: (id: string, now: number) => (all.all() as OwnerRow[]).filter((owner) => owner.id !== id && isAlive(owner, now)).length,
    register: (id: string, now: number) => insert.run(id, process.pid, hostname(), now, now),
    /** False when another process took this one for dead and removed it. */
    beat: (id: string, now: number) => beat.run(now, id).changes === 1,
    remove: (id: string) => remove.run(id),
    leaveQueue: (id: string) => setQueue.run(0, id),
    /** Takes the queue unless a living process has it. */
    takeQueue(id: string, now: number): boolean {
      return immediately(db, () => {
        const holder = (all.all() as OwnerRow[]).find((owner) => owner.works_queue === 1 && isAlive(owner, now))
        if (holder) return holder.id === id
        return setQueue.run(1, id).changes === 1
      })
    },
  }
}

function isAlive({ pid, host, heartbeat_at }: OwnerRow, now: number): boolean {
  if (now - heartbeat_at > silenceMilliseconds) return false
  // A clock that was set back leaves heartbeats in the future. Only another machine's dead owner cannot be told by its process.
  if (heartbeat_at - now > silenceMilliseconds && host !== hostname()) return false
  return host !== hostname() || pid === process.pid || processExists(pid)
}

/** Whether a process of this machine runs. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM'
  }
}
