import { hostname } from 'node:os'
import type { Database } from './database.ts'
import { immediately } from './database.ts'

/** An owner without a heartbeat for this long is considered dead, whatever its process id says. */
export const silenceMilliseconds = 60_000

interface OwnerRow {
  id: string
  pid: number
  host: string
  heartbeat_at: number
  works_queue: number
}

/** The processes that have this history open, and which of them runs the queue. */
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
    /** The other processes that have this history open. */
    others: (id: string, now: number) => (all.all() as OwnerRow[]).filter((owner) => owner.id !== id && isAlive(owner, now)).length,
    register: (id: string, now: number) => insert.run(id, process.pid, hostname(), now, now),
    /** False if another process considered this one dead and removed it. */
    beat: (id: string, now: number) => beat.run(now, id).changes === 1,
    remove: (id: string) => remove.run(id),
    leaveQueue: (id: string) => setQueue.run(0, id),
    /** Takes over the queue unless a living process has it. */
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
  // If a clock was set back, heartbeats lie in the future. The process id settles it, except for an owner on another machine.
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
