import type { RunRow } from '#db/runs/runs.ts'

/**
 * Where runs are computed. All that it must know stands in the history, where each run names its executor: it takes up what waits
 * there for it, and writes down there what became of it.
 */
export interface Executor {
  /** Takes up waiting runs as far as there is room, unless the queue is paused. Cheap when there is nothing to do. */
  work(paused: boolean): void
  /** How long the present attempt at a run has gone on; 0 for runs that it does not do. */
  secondsOf(run: string): number
  /** Leaves runs alone whose rows say already that they do not go on. */
  abandon(rows: readonly Pick<RunRow, 'number'>[]): void
  /** Lets what was given up be tried again. */
  mend(): void
  /** Ends what cannot go on without this process. */
  close(): Promise<void>
}
