import { z } from 'zod'
import { moment } from './identifiers.ts'

export const backendState = z.object({ name: z.string(), available: z.boolean(), why: z.string() })

/** What the compute process found: which backend it would use on which device, and why. */
export const engineReport = z.object({
  backend: z.string(),
  device: z.string(),
  why: z.string(),
  version: z.string(),
  backends: z.array(backendState),
  devices: z.array(z.object({ id: z.string(), title: z.string(), kind: z.enum(['gpu', 'cpu']), memoryBytes: z.number().nullable() })),
})

/**
 * Known operations worked out, and a product timed. `largestError` is how far off the worst of them is, relative to the largest value it
 * should give, `worst` which one; `matches` is false when that is more than float32 may be.
 */
export const selfTest = z.object({
  backend: z.string(),
  device: z.string(),
  matches: z.boolean(),
  gigaflopsPerSecond: z.number(),
  seconds: z.number(),
  largestError: z.number(),
  worst: z.string(),
})

export const engineState = z.object({
  status: z.enum(['unknown', 'probing', 'ready', 'failed']),
  report: engineReport.nullable(),
  selfTest: selfTest.extend({ at: moment }).nullable(),
  problem: z.string().nullable(),
  memory: z.object({ totalBytes: z.number(), freeBytes: z.number() }),
  processors: z.number().int(),
})

export type EngineReport = z.infer<typeof engineReport>
export type SelfTest = z.infer<typeof selfTest>
export type EngineState = z.infer<typeof engineState>
