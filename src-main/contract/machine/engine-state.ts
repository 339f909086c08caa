import { z } from 'zod'
import { moment } from '../identifiers.ts'

const backendState = z.object({ name: z.string(), available: z.boolean(), why: z.string() })

/** A device. `usedBy` is the runtime that computes on it, or null if none does. `memoryBytes` is the free memory. */
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

/** What the compute process found on this machine: the backend and device that it would use, the reason, and all backends and devices. */
export const engineReport = z.object({
  backend: z.string(),
  device: z.string(),
  why: z.string(),
  version: z.string(),
  backends: z.array(backendState),
  devices: z.array(deviceReport),
})

/**
 * A machine's speed at the operations of pruning, for one model width. `attention`, `mlp`, `head`, `double` (float64), `vectors`
 * (eigenvectors) and `solved` (equations in float64) are billions of operations per second. `call` is the fixed cost of passing a part, in
 * seconds. `decoded` is gigabytes of weights per second in token-by-token generation, and `stored` millions of values per second that are
 * quantised to Q4_K. The others are speed-ups of a block over float32 with other products, 1 if the hardware has no units for them. `auto`
 * is the speed-up with 16-bit products if precision `auto` uses them, else 1.
 */
const machineRate = z.object({
  hidden: z.number().int(),
  attention: z.number(),
  mlp: z.number(),
  head: z.number(),
  double: z.number(),
  vectors: z.number(),
  solved: z.number(),
  call: z.number(),
  decoded: z.number(),
  stored: z.number(),
  thirds: z.number(),
  split: z.number(),
  bfloat16: z.number(),
  auto: z.number(),
})

/**
 * The result of checking operations with known results, and of timing a product. `largestError` is the worst error relative to the largest
 * expected value, and `worst` names its operation. `matches` is false if this error exceeds float32's tolerance.
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
