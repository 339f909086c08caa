import { z } from 'zod'

/**
 * A run's job on a cluster: its number there (`12_3` in an array) once it has one, the node it runs on, and in the cluster's own words
 * why it waits. A job is `lost` while the cluster does not answer.
 */
export const clusterJob = z.object({
  id: z.string().nullable(),
  state: z.enum(['sending', 'waiting', 'running', 'lost']),
  node: z.string().nullable(),
  reason: z.string().nullable(),
})

export type ClusterJob = z.infer<typeof clusterJob>
