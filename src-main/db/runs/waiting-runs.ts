import { Table } from '#db/sql-table.ts'
import { immediately } from '../database.ts'
import type { RunRow } from './runs.ts'

/** Runs with the same position are ordered by creation. */
const inOrder = 'ORDER BY queue_position, number'

/** The queue: the order of waiting runs, and the owners of running ones. */
export class WaitingRuns extends Table {
  readonly #last: () => number = this.one("SELECT coalesce(max(queue_position), 0) FROM runs WHERE status = 'queued'")
  readonly #enqueue: (position: number, number: number) => void = this.run(
    "UPDATE runs SET status = 'queued', queue_position = ?, owner = NULL, wish = NULL, problem = NULL, ended_at = NULL, progress = NULL, waited = 0, cut_off = 0 WHERE number = ?",
  )
  readonly #first: () => number = this.one("SELECT coalesce(min(queue_position), 1) FROM runs WHERE status = 'queued'")
  readonly #firstWaiting: () => number | undefined = this.first(
    `SELECT number FROM runs WHERE status = 'queued' AND executor IS NULL AND archived_at IS NULL ${inOrder} LIMIT 1`,
  )
  readonly #firstAnalysis: () => number | undefined = this.first(
    `SELECT number FROM runs WHERE status = 'queued' AND executor IS NULL AND archived_at IS NULL AND method = 'divergence' ${inOrder} LIMIT 1`,
  )
  readonly #claim: (claim: { number: number; owner: string; device: string; now: number; fromQueue: boolean }) => RunRow = this.one(`
    UPDATE runs SET status = 'running', executor = NULL, job = NULL, owner = @owner, device = @device, from_queue = @fromQueue, wish = NULL, queue_position = NULL, attempts = attempts + 1,
      started_at = coalesce(started_at, @now), attempt_at = @now, ended_at = NULL, problem = iif(crashes > 0, problem, NULL), progress = NULL WHERE number = @number RETURNING *`)
  readonly #order: () => number[] = this.all(`SELECT number FROM runs WHERE status = 'queued' AND archived_at IS NULL ${inOrder}`)
  readonly #place: (position: number, number: number) => void = this.run('UPDATE runs SET queue_position = ? WHERE number = ?')
  readonly #interrupt: (now: number) => RunRow[] = this.all(`
    UPDATE runs SET status = CASE wish WHEN 'cancel' THEN 'cancelled' WHEN 'pause' THEN 'paused' ELSE 'interrupted' END, owner = NULL, wish = NULL, ended_at = ?,
      cut_off = (wish IS NULL AND from_queue), crashes = crashes + (wish IS NULL AND from_queue)
    WHERE status = 'running' AND executor IS NULL AND (owner IS NULL OR owner NOT IN (SELECT id FROM owners)) RETURNING *`)
  readonly #stopTalks: () => void = this.run(
    "UPDATE transcripts SET status = 'stopped', owner = NULL WHERE status = 'running' AND (owner IS NULL OR owner NOT IN (SELECT id FROM owners))",
  )
  readonly #forgetOwners: (owners: readonly string[]) => void = this.run('DELETE FROM owners WHERE id IN (SELECT value FROM json_each(?))')

  /** The first waiting runs in queue order, `limit` at most. */
  readonly next: (limit: number) => RunRow[] = this.all(
    `SELECT * FROM runs WHERE status = 'queued' AND archived_at IS NULL ${inOrder} LIMIT ?`,
  )
  readonly countWaiting: () => number = this.one("SELECT count(*) FROM runs WHERE status = 'queued' AND archived_at IS NULL")
  readonly hasAnalysis = (): boolean => this.#firstAnalysis() !== undefined
  /** Waiting runs whose model is not in the library. */
  readonly waitingWithoutModel: () => RunRow[] = this.all(
    "SELECT * FROM runs WHERE status = 'queued' AND archived_at IS NULL AND model NOT IN (SELECT id FROM models WHERE removed_at IS NULL)",
  )
  /** Of the runs created since the first one that waits or runs, the number that are done or failed. A clock that was set back changes nothing. */
  readonly countEnded: () => number = this.one(
    "SELECT count(*) FROM runs WHERE status IN ('done', 'failed') AND method <> 'divergence' AND number >= (SELECT min(number) FROM runs WHERE status IN ('queued', 'running') AND archived_at IS NULL)",
  )
  readonly countEndedBetween: (after: number, until: number) => number = this.one(
    "SELECT count(*) FROM runs WHERE status IN ('done', 'failed') AND method <> 'divergence' AND ended_at > ? AND ended_at <= ?",
  )
  readonly waiting: () => RunRow[] = this.all(`SELECT * FROM runs WHERE status = 'queued' AND archived_at IS NULL ${inOrder}`)
  readonly running: () => RunRow[] = this.all("SELECT * FROM runs WHERE status = 'running' ORDER BY started_at, number")
  /** Runs that the queue had started and that were interrupted when a program ended. */
  readonly cutOff: () => RunRow[] = this.all(
    "SELECT * FROM runs WHERE cut_off AND status = 'interrupted' AND archived_at IS NULL ORDER BY started_at, number",
  )
  /** Runs to be computed on a cluster, and those whose jobs there must be cancelled. */
  readonly ofClusters: () => RunRow[] = this.all(
    `SELECT * FROM runs WHERE executor IS NOT NULL AND (status IN ('queued', 'running') OR job ->> '$.submission' IS NOT NULL) ${inOrder}`,
  )

  enqueue(numbers: readonly number[]): void {
    let position = this.#last()
    for (const number of numbers) this.#enqueue(++position, number)
  }

  /** Puts analyses before all others, because a page waits for them. */
  enqueueFirst(numbers: readonly number[]): void {
    const first = this.#first() - numbers.length
    for (const [at, number] of numbers.entries()) this.#enqueue(first + at, number)
  }

  /** Claims the next run for this machine, or the next analysis. */
  claimNext(owner: string, device: string, now: number, kind: 'run' | 'analysis' = 'run'): RunRow | undefined {
    return immediately(this.db, () => {
      const number = kind === 'run' ? this.#firstWaiting() : this.#firstAnalysis()
      return number === undefined ? undefined : this.#claim({ number, owner, device, now, fromQueue: true })
    })
  }

  /** Claims a given run, for a process that does not run the queue. This machine becomes its executor. */
  claim(number: number, owner: string, device: string, now: number): RunRow {
    return this.#claim({ number, owner, device, now, fromQueue: false })
  }

  /** Moves a waiting run before another, or to the end. Renumbers all positions so that they remain integers. */
  move(number: number, before: number | null): void {
    immediately(this.db, () => {
      const order = this.#order().filter((other) => other !== number)
      const index = before === null ? order.length : order.indexOf(before)
      order.splice(index < 0 ? order.length : index, 0, number)
      this.#renumber(order)
    })
  }

  /** Puts runs back into the queue: `numbers` at their places in an earlier `order`, and `inFront` before all others. */
  putBack(numbers: readonly number[], order: readonly number[], inFront: readonly number[] = []): void {
    for (const number of [...inFront, ...numbers]) this.#enqueue(0, number)
    const returned = new Set([...numbers, ...inFront])
    const others = this.#order().filter((number) => !returned.has(number))
    const known = new Set([...numbers, ...others])
    const merged = mergeOrders(
      others,
      order.filter((number) => known.has(number) && !inFront.includes(number)),
    )
    this.#renumber([...inFront, ...merged])
  }

  /**
   * Ends the runs and conversations of dead processes. A run becomes cancelled or paused if that was requested, else interrupted. Returns
   * the runs.
   */
  interruptOrphans(deadOwners: readonly string[], now: number): RunRow[] {
    return immediately(this.db, () => {
      this.#forgetOwners(deadOwners)
      this.#stopTalks()
      return this.#interrupt(now)
    })
  }

  #renumber(order: readonly number[]): void {
    for (const [position, number] of order.entries()) this.#place(position + 1, number)
  }
}

/** Inserts into the current order the numbers that only the earlier order has, each after its predecessor there. */
function mergeOrders(present: readonly number[], earlier: readonly number[]): number[] {
  const merged = [...present]
  const known = new Set(present)
  for (const [index, number] of earlier.entries()) {
    if (known.has(number)) continue
    const previous = earlier[index - 1]
    merged.splice(previous === undefined ? 0 : merged.indexOf(previous) + 1, 0, number)
    known.add(number)
  }
  return merged
}
