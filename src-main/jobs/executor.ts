import type { RunRow } from '#db/runs/runs.ts'

/**
 * Where runs are computed. Its whole state is in the history, where each run names its executor: it picks up the runs that wait there and
 * records their outcome there.
 */
export interface Executor {
  /** Starts waiting runs while there is room, unless the queue is paused. Cheap if there is nothing to do. */
  work(paused: boolean): void
  /** Duration of the current attempt at a run; 0 for runs of other executors. */
  secondsOf(run: string): number
  /** Drops runs whose rows already say that they stop. */
  abandon(rows: readonly Pick<RunRow, 'number'>[]): void
  /** Allows retries after giving up. */
  allowRetries(): void
  /** Stops everything that cannot continue without this process. */
  close(): Promise<void>
}
