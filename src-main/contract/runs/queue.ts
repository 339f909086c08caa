import { z } from 'zod'
import { clusterState } from '../clusters/clusters.ts'
import { id, ids, moment } from '../identifiers.ts'
import { obstacle } from '../machine/history.ts'
import { runEntry } from './runs.ts'

/** A device that runs can use, and its current state. */
const deviceState = z.object({
  id: z.string(),
  title: z.string(),
  kind: z.enum(['gpu', 'cpu']),
  status: z.enum(['off', 'starting', 'idle', 'busy', 'stopping', 'broken']),
  run: id.nullable(),
  problem: z.string().nullable(),
})

const named = z.object({ id, name: z.string() })

/** Runs that were interrupted when Espalier ended. Those in `held` wait for the user, because Espalier died with them twice. */
const takenUp = z.object({ resumed: z.array(named), held: z.array(named) })

/** A cause that failed several runs in a row, and these runs. It stopped the queue. */
export const stoppedBy = z.object({ message: z.string(), runs: ids, since: moment })

/** Work that waits for memory: the id of its run, transcript or transfer, and the reason in a sentence. */
const memoryWait = z.object({ id: z.string(), text: z.string() })

/** At most this many waiting runs are listed and estimated. A queue may hold thousands. */
export const mostShown = 100

/** Running runs first, then the first waiting ones in order. `owner` is false if another process runs the queue. */
export const queueState = z.object({
  paused: z.boolean(),
  /** Why no run begins at the moment, although the queue is not paused. It continues by itself. */
  obstacle: obstacle.nullable(),
  /** Set if the queue paused itself because several runs failed of one cause. */
  stopped: stoppedBy.nullable(),
  owner: z.boolean(),
  devices: z.array(deviceState),
  clusters: z.array(clusterState),
  memoryWaits: z.array(memoryWait),
  runs: z.array(runEntry),
  /** All waiting runs, including those that are not listed. */
  waiting: z.number().int(),
  /** How many runs are done or failed, of those that were made since the oldest one in the queue. */
  ended: z.number().int(),
  /** How many runs were done or failed within the last hour. */
  endedLastHour: z.number().int(),
  /** Null once the user has dismissed the notice. */
  takenUp: takenUp.nullable(),
})

export type DeviceState = z.infer<typeof deviceState>
export type MemoryWait = z.infer<typeof memoryWait>
export type TakenUp = z.infer<typeof takenUp>
export type QueueState = z.infer<typeof queueState>
