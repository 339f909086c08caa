import { z } from 'zod'

/**
 * A run's job on a cluster. `id` is set once the job is submitted (`12_3` in an array). `reason` is why the job waits, in the cluster's own
 * words. A job is `lost` while the cluster does not answer.
 */
export const clusterJob = z.object({
  id: z.string().nullable(),
  state: z.enum(['sending', 'waiting', 'running', 'lost']),
  node: z.string().nullable(),
  reason: z.string().nullable(),
})

export type ClusterJob = z.infer<typeof clusterJob>
