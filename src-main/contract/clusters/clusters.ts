import { z } from 'zod'
import { chosenPlace } from '../places.ts'

/** A value of a Slurm option. Rejects anything that a shell or the batch script could read as more than one word. */
const word = (what: string) =>
  z
    .string()
    .max(100)
    .regex(/^([A-Za-z0-9][A-Za-z0-9_.,:@+-]*)?$/, `${what} may contain only letters, digits and _ . , : @ + -.`)

/** A path that is safe unquoted in scripts, in Slurm's patterns and in word lists. */
const plainPath = /^(\/[\p{L}\p{N}_.,@+=-]+)+\/?$/u

export const clusterName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{1,39}$/, 'A cluster’s name has 2 to 40 lower-case letters, digits and dashes.')

/** How many GPUs and processors a run may ask a cluster for. */
export const clusterCounts = { gpus: { least: 0, most: 64 }, cpus: { least: 1, most: 1024 } } as const

/** How runs are sent to a Slurm cluster. An empty string leaves the choice to the cluster. */
export const clusterProfile = z.object({
  name: clusterName,
  /** A host from the user's ssh configuration; empty if Slurm's commands run on this machine. */
  host: z
    .string()
    .max(200)
    .regex(/^([A-Za-z0-9][A-Za-z0-9_.@-]*)?$/, 'A host name from your ssh configuration may contain only letters, digits and _ . @ -.'),
  /** A folder that the host and every node see under the same path. This machine must see it too unless `copies` is set. */
  folder: chosenPlace.regex(plainPath, 'The shared folder must be an absolute path of letters, digits and _ . , @ + = -.'),
  /** Copy models, requests and results to and from the host with rsync over ssh. */
  copies: z.boolean().default(false),
  /** The command `espalier` on the nodes; empty to use this installation. */
  program: z
    .string()
    .max(4096)
    .regex(new RegExp(`^$|${plainPath.source}`, 'u'), 'The program must be an absolute path of letters, digits and _ . , @ + = -.'),
  partition: word('A partition'),
  account: word('An account'),
  /** In Slurm's notation: minutes, hours:minutes:seconds, or days-hours. */
  time: z
    .string()
    .regex(
      /^((\d{1,3}-)?\d{1,5}(:\d{1,2}){0,2})?$/,
      'A time must be minutes, hours:minutes:seconds or days-hours, such as 90, 4:00:00 or 1-12.',
    ),
  gpus: z.number().int().min(clusterCounts.gpus.least).max(clusterCounts.gpus.most),
  cpus: z.number().int().min(clusterCounts.cpus.least).max(clusterCounts.cpus.most),
  memory: z.string().regex(/^(\d{1,7}[KMGT]?)?$/, 'Memory must be a number with K, M, G or T, such as 64G.'),
  /** Added to the batch script unchanged: `#SBATCH` lines to its head, others (`module load …`) before the program. */
  lines: z
    .string()
    .max(10_000)
    .regex(/^[^\p{Cc}]*(\n[^\p{Cc}]*)*$/u, 'Lines must not contain control characters.'),
})

/** One check and its result. `works` is null if the check could not be made. */
export const clusterFinding = z.object({ what: z.string(), works: z.boolean().nullable(), found: z.string() })

/** A cluster as the queue sees it. */
export const clusterState = z.object({
  name: z.string(),
  waiting: z.number().int(),
  running: z.number().int(),
  problem: z.string().nullable(),
})

export type ClusterProfile = z.infer<typeof clusterProfile>
export type ClusterFinding = z.infer<typeof clusterFinding>
export type ClusterState = z.infer<typeof clusterState>

/** A new cluster profile: one processor per run, and the cluster's defaults for everything else. */
export const emptyProfile: ClusterProfile = {
  name: '',
  host: '',
  folder: '',
  copies: false,
  program: '',
  partition: '',
  account: '',
  time: '',
  gpus: 0,
  cpus: 1,
  memory: '',
  lines: '',
}

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
