import type { RunRow } from '#db/runs/runs.ts'

/**
 * Where runs are computed. An executor keeps its whole state in the history, where each run names its executor. It takes the runs that wait
 * there and records their outcomes there.
 */
export interface Executor {
  /** Starts waiting runs while there is room, unless the queue is paused. Cheap if there is nothing to do. */
  work(paused: boolean): void
  /** Seconds that the current attempt at a run has taken; 0 for runs of other executors. */
  secondsOf(run: string): number
  /** Stops computing runs whose rows already say that they stop. */
  abandon(rows: readonly Pick<RunRow, 'number'>[]): void
  /** Allows retries after giving up. */
  allowRetries(): void
  /** Stops everything that cannot continue without this process. */
  close(): Promise<void>
}
