import type { Database } from '../database.ts'
import { immediately } from '../database.ts'
import type { RunRow } from './runs.ts'

/** The order of waiting runs, and their owners. Every change of owner is one BEGIN IMMEDIATE. */
export function runQueueTable(db: Database) {
  const last = db.prepare("SELECT coalesce(max(queue_position), 0) FROM runs WHERE status = 'queued'").pluck()
  const enqueue = db.prepare(
    "UPDATE runs SET status = 'queued', queue_position = ?, owner = NULL, wish = NULL, problem = NULL, ended_at = NULL, progress = NULL, waited = 0, cut_off = 0 WHERE number = ?",
  )
  const next = db.prepare(
    "SELECT * FROM runs WHERE status = 'queued' AND executor IS NULL AND archived_at IS NULL ORDER BY queue_position, number LIMIT 1",
  )
  const claim = db.prepare(`
    UPDATE runs SET status = 'running', executor = NULL, job = NULL, owner = @owner, device = @device, from_queue = @fromQueue, wish = NULL, queue_position = NULL, attempts = attempts + 1,
      started_at = coalesce(started_at, @now), attempt_at = @now, ended_at = NULL, problem = NULL, progress = NULL WHERE number = @number RETURNING *`)
  const waiting = db.prepare("SELECT * FROM runs WHERE status = 'queued' AND archived_at IS NULL ORDER BY queue_position, number")
  const running = db.prepare("SELECT * FROM runs WHERE status = 'running' ORDER BY started_at, number")
  const ofClusters = db.prepare(
    "SELECT * FROM runs WHERE executor IS NOT NULL AND (status IN ('queued', 'running') OR job ->> '$.submission' IS NOT NULL) ORDER BY queue_position, number",
  )
  const cutOff = db.prepare(
    "SELECT * FROM runs WHERE cut_off AND status = 'interrupted' AND archived_at IS NULL ORDER BY started_at, number",
  )
  const place = db.prepare('UPDATE runs SET queue_position = ? WHERE number = ?')
  const interrupt = db.prepare(`
    UPDATE runs SET status = CASE wish WHEN 'cancel' THEN 'cancelled' WHEN 'pause' THEN 'paused' ELSE 'interrupted' END, owner = NULL, wish = NULL, ended_at = ?,
      cut_off = (wish IS NULL AND from_queue), crashes = crashes + (wish IS NULL AND from_queue)
    WHERE status = 'running' AND executor IS NULL AND (owner IS NULL OR owner NOT IN (SELECT id FROM owners)) RETURNING *`)
  const stopTalks = db.prepare(
    "UPDATE transcripts SET status = 'stopped', owner = NULL WHERE status = 'running' AND (owner IS NULL OR owner NOT IN (SELECT id FROM owners))",
  )
  return {
    waiting: () => waiting.all() as RunRow[],
    running: () => running.all() as RunRow[],
    /** Runs of the queue that the end of a program interrupted. */
    cutOff: () => cutOff.all() as RunRow[],
    /** Runs to be computed on a cluster, and those whose jobs there must be cancelled. */
    ofClusters: () => ofClusters.all() as RunRow[],
    enqueue(numbers: readonly number[]): void {
      let position = last.get() as number
      for (const number of numbers) enqueue.run(++position, number)
    },
    /** Claims the next run for this machine. */
    claimNext(owner: string, device: string, now: number): RunRow | undefined {
      return immediately(db, () => {
        const row = next.get() as RunRow | undefined
        return row && (claim.get({ owner, device, now, fromQueue: 1, number: row.number }) as RunRow)
      })
    },
    /** Claims one given run, for a process that does not run the queue. From then on the run belongs to this machine. */
    claim(number: number, owner: string, device: string, now: number): RunRow {
      return claim.get({ number, owner, device, now, fromQueue: 0 }) as RunRow
    },
    /** Moves a waiting run before another, or to the end. Renumbers all positions so that they remain integers. */
    move(number: number, before: number | null): void {
      immediately(db, () => {
        const order = (waiting.all() as RunRow[]).map((row) => row.number).filter((waitingNumber) => waitingNumber !== number)
        const at = before === null ? order.length : order.indexOf(before)
        order.splice(at < 0 ? order.length : at, 0, number)
        for (const [position, waitingNumber] of order.entries()) place.run(position + 1, waitingNumber)
      })
    },
    /** Puts runs back to their places in an order that was before, and other runs in front of all. */
    putBack(numbers: readonly number[], order: readonly number[], inFront: readonly number[] = []): void {
      for (const number of [...inFront, ...numbers]) enqueue.run(0, number)
      const returned = new Set([...numbers, ...inFront])
      const others = (waiting.all() as RunRow[]).map((row) => row.number).filter((number) => !returned.has(number))
      const known = new Set([...numbers, ...others])
      const merged = mergeOrders(
        others,
        order.filter((number) => known.has(number) && !inFront.includes(number)),
      )
      for (const [position, number] of [...inFront, ...merged].entries()) place.run(position + 1, number)
    },
    /** Marks runs and conversations of dead processes as interrupted. */
    interruptOrphans(deadOwners: readonly string[], now: number): RunRow[] {
      return immediately(db, () => {
        for (const owner of deadOwners) db.prepare('DELETE FROM owners WHERE id = ?').run(owner)
        stopTalks.run()
        return interrupt.all(now) as RunRow[]
      })
    },
  }
}

/** The present order with what it lacks of an earlier one, each after the number that it followed then. */
export function mergeOrders(present: readonly number[], earlier: readonly number[]): number[] {
  const merged = [...present]
  const known = new Set(present)
  for (const [at, number] of earlier.entries()) {
    if (known.has(number)) continue
    const last = earlier[at - 1]
    merged.splice(last === undefined ? 0 : merged.indexOf(last) + 1, 0, number)
    known.add(number)
  }
  return merged
}
