import type { RunStatus } from '#contract/runs/run-status.ts'

/** Statuses in the order of a run's life; the type keeps this list complete. */
const order: Record<RunStatus, number> = { draft: 0, queued: 1, running: 2, paused: 3, interrupted: 4, done: 5, failed: 6, cancelled: 7 }

export const runStatusOrder = (Object.keys(order) as RunStatus[]).sort((a, b) => order[a] - order[b])
