import { z } from 'zod'

const runStatuses = ['draft', 'queued', 'running', 'paused', 'done', 'failed', 'cancelled', 'interrupted'] as const
export const runStatus = z.enum(runStatuses)
export type RunStatus = z.infer<typeof runStatus>
