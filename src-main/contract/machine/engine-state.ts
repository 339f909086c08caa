import { z } from 'zod'
import { moment } from '../identifiers.ts'

const backendState = z.object({ name: z.string(), available: z.boolean(), why: z.string() })

/** A device, and the runtime that computes on it; null if none does. `memoryBytes` is the free amount. */
export const deviceReport = z.object({
  id: z.string(),
  title: z.string(),
  kind: z.enum(['gpu', 'cpu']),
  memoryBytes: z.number().nullable(),
  totalBytes: z.number().nullable(),
  driver: z.string().nullable(),
  usedBy: z.string().nullable(),
  why: z.string(),
})

/** What the compute process found: the backend and device it would use, and why, and every device. */
export const engineReport = z.object({
  backend: z.string(),
  device: z.string(),
  why: z.string(),
  version: z.string(),
  backends: z.array(backendState),
  devices: z.array(deviceReport),
})

/**
 * A machine's speed at the operations of pruning, for one model width: billions of operations per second in attention, MLPs and head, in
 * float64, and for eigenvectors; the fixed cost in seconds of passing a part; gigabytes of weights per second in token-by-token generation;
 * and the speed-up of a block over float32 with other products (1 without hardware units for them); `auto` is the speed-up of those in
 * 16 bits if precision `auto` takes them, else 1.
 */
const machineRate = z.object({
  hidden: z.number().int(),
  attention: z.number(),
  mlp: z.number(),
  head: z.number(),
  double: z.number(),
  vectors: z.number(),
  call: z.number(),
  decoded: z.number(),
  thirds: z.number(),
  split: z.number(),
  bfloat16: z.number(),
  auto: z.number(),
})

/**
 * Known operations checked and a product timed. `largestError` is the worst error relative to the largest expected value, `worst` the
 * operation. `matches` is false if that exceeds float32's tolerance.
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
  /** When the report was made. */
  probedAt: moment.nullable(),
  selfTest: selfTest.extend({ at: moment }).nullable(),
  problem: z.string().nullable(),
  memory: z.object({ totalBytes: z.number(), freeBytes: z.number() }),
  processors: z.number().int(),
})

export type DeviceReport = z.infer<typeof deviceReport>
export type EngineReport = z.infer<typeof engineReport>
export type MachineRate = z.infer<typeof machineRate>
export type SelfTest = z.infer<typeof selfTest>
export type EngineState = z.infer<typeof engineState>
