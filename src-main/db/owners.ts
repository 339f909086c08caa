import { hostname } from 'node:os'
import { processExists } from '#runtime/write-whole.ts'
import { immediately } from './database.ts'
import { Table } from './sql-table.ts'

/** An owner without a heartbeat for this long is considered dead, whatever its process id says. */
const silenceMilliseconds = 60_000

interface OwnerRow {
  id: string
  pid: number
  host: string
  heartbeat_at: number
  works_queue: number
}

/** The processes that have this history open, and which of them runs the queue. */
export class OwnersTable extends Table {
  readonly #all: () => OwnerRow[] = this.all('SELECT id, pid, host, heartbeat_at, works_queue FROM owners')
  readonly #insert: (id: string, pid: number, host: string, startedAt: number, heartbeatAt: number) => void = this.run(
    'INSERT OR REPLACE INTO owners(id, pid, host, started_at, heartbeat_at) VALUES (?, ?, ?, ?, ?)',
  )
  readonly #beat: (now: number, id: string) => number = this.run('UPDATE owners SET heartbeat_at = ? WHERE id = ?')
  readonly #setQueue: (works: boolean, id: string) => number = this.run('UPDATE owners SET works_queue = ? WHERE id = ?')

  readonly remove: (id: string) => void = this.run('DELETE FROM owners WHERE id = ?')

  /** Until then, silence does not count as death: this process was stopped, or the history locked, and so may others have been. */
  patientUntil = 0

  dead(now: number): string[] {
    return this.#all().flatMap((owner) => (this.#isAlive(owner, now) ? [] : [owner.id]))
  }

  /** Returns how many other living processes have this history open. */
  others(id: string, now: number): number {
    return this.#all().filter((owner) => owner.id !== id && this.#isAlive(owner, now)).length
  }

  register(id: string, now: number): void {
    this.#insert(id, process.pid, hostname(), now, now)
  }

  /** Records a heartbeat. Registers the process if it is new, or if another process considered it dead and removed it. */
  keep(id: string, now: number): void {
    if (this.#beat(now, id) === 0) this.register(id, now)
  }

  leaveQueue(id: string): void {
    this.#setQueue(false, id)
  }

  /** Takes over the queue unless another living process has it. Returns whether this process has it now. */
  takeQueue(id: string, now: number): boolean {
    return immediately(this.db, () => {
      const holder = this.#all().find((owner) => owner.works_queue === 1 && this.#isAlive(owner, now))
      return holder ? holder.id === id : this.#setQueue(true, id) === 1
    })
  }

  #isAlive({ pid, host, heartbeat_at }: OwnerRow, now: number): boolean {
    // If a clock was set back, patience ends too far in the future to count.
    const isPatient = now <= this.patientUntil && this.patientUntil - now <= silenceMilliseconds
    if (now - heartbeat_at > silenceMilliseconds && !isPatient) return false
    // If a clock was set back, heartbeats are in the future. Then the process id decides, except for an owner on another machine.
    if (heartbeat_at - now > silenceMilliseconds && host !== hostname()) return false
    return host !== hostname() || pid === process.pid || processExists(pid)
  }
}
