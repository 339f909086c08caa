import { z } from 'zod'
import { moment } from '../identifiers.ts'

export const backendState = z.object({ name: z.string(), available: z.boolean(), why: z.string() })

/** What the compute process found: which backend it would use on which device, and why; of a GPU's memory what was free. */
export const engineReport = z.object({
  backend: z.string(),
  device: z.string(),
  why: z.string(),
  version: z.string(),
  backends: z.array(backendState),
  devices: z.array(z.object({ id: z.string(), title: z.string(), kind: z.enum(['gpu', 'cpu']), memoryBytes: z.number().nullable() })),
})

/**
 * How fast a machine does what pruning is made of in a model of a width: thousand millions of operations a second of attention, MLPs and
 * head, in float64, and for eigenvectors; seconds that passing a part takes besides, however few rows; gigabytes of weights a second where
 * tokens are made one by one; how many times as fast as in float32 a block is by the other products, 1 where there are no units for them.
 */
export const machineRate = z.object({
  hidden: z.number().int(),
  attention: z.number(),
  mlp: z.number(),
  head: z.number(),
  double: z.number(),
  vectors: z.number(),
  call: z.number(),
  decoded: z.number(),
  split: z.number(),
  bfloat16: z.number(),
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
  rates: z.array(machineRate),
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
export type MachineRate = z.infer<typeof machineRate>
export type SelfTest = z.infer<typeof selfTest>
export type EngineState = z.infer<typeof engineState>
