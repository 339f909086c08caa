import { z } from 'zod'
import { clusterState } from '../clusters/clusters.ts'
import { id } from '../identifiers.ts'
import { runEntry } from './runs.ts'

/** A device that runs can use, and its current state. */
export const deviceState = z.object({
  id: z.string(),
  title: z.string(),
  kind: z.enum(['gpu', 'cpu']),
  status: z.enum(['off', 'starting', 'idle', 'busy', 'stopping', 'broken']),
  run: id.nullable(),
  problem: z.string().nullable(),
})

/** Running runs first, then waiting ones in order. `owner` is false if another process runs the queue. */
export const queueState = z.object({
  paused: z.boolean(),
  owner: z.boolean(),
  devices: z.array(deviceState),
  clusters: z.array(clusterState),
  runs: z.array(runEntry),
})

export type DeviceState = z.infer<typeof deviceState>
export type QueueState = z.infer<typeof queueState>
