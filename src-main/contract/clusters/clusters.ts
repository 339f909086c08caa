import { z } from 'zod'
import { chosenPlace } from '../places.ts'

/** What Slurm's own options take: nothing that a shell or the batch script's lines could read as more than a word. */
const word = (what: string) =>
  z
    .string()
    .max(100)
    .regex(/^([A-Za-z0-9][A-Za-z0-9_.,:@+-]*)?$/, `${what} is letters, digits and _ . , : @ + - only.`)

/** A path that needs no care in a script, in Slurm's patterns, and in a list of words. */
const plainPath = /^(\/[\p{L}\p{N}_.,@+=-]+)+\/?$/u

export const clusterName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{1,39}$/, 'A cluster’s name is 2 to 40 lower-case letters, digits and dashes.')

/** How runs are sent to a Slurm cluster. Empty texts leave a choice to the cluster. */
export const clusterProfile = z.object({
  name: clusterName,
  /** A host of the user's ssh configuration; empty where Slurm's commands are on this machine. */
  host: z
    .string()
    .max(200)
    .regex(/^([A-Za-z0-9][A-Za-z0-9_.@-]*)?$/, 'A host is named as in your ssh configuration: letters, digits and _ . @ - only.'),
  /** A folder that the host and every node see under the same path, and this machine too unless `copies`. */
  folder: chosenPlace.regex(plainPath, 'The shared folder is a whole path of letters, digits and _ . , @ + = - only.'),
  /** Whether models, requests and results are copied to and from the host by rsync over ssh. */
  copies: z.boolean().default(false),
  /** The command `espalier` on the nodes; empty for this very program. */
  program: z
    .string()
    .max(4096)
    .regex(new RegExp(`^$|${plainPath.source}`, 'u'), 'The program is a whole path of letters, digits and _ . , @ + = - only.'),
  partition: word('A partition'),
  account: word('An account'),
  /** As Slurm writes it: minutes, hours:minutes:seconds, or days-hours. */
  time: z
    .string()
    .regex(
      /^((\d{1,3}-)?\d{1,5}(:\d{1,2}){0,2})?$/,
      'A time is minutes, hours:minutes:seconds, or days-hours, such as 90, 4:00:00 or 1-12.',
    ),
  gpus: z.number().int().min(0).max(64),
  cpus: z.number().int().min(1).max(1024),
  memory: z.string().regex(/^(\d{1,7}[KMGT]?)?$/, 'A memory is a number with K, M, G or T, such as 64G.'),
  /** Put into the batch script as they are: `#SBATCH` lines into its head, others (`module load …`) before the program. */
  lines: z
    .string()
    .max(10_000)
    .regex(/^[^\p{Cc}]*(\n[^\p{Cc}]*)*$/u, 'Lines hold no control characters.'),
})

/** One thing that was looked at, and what was found. `null` where it could not be looked at. */
export const clusterFinding = z.object({ what: z.string(), works: z.boolean().nullable(), found: z.string() })

/** How a cluster stands with the queue. */
export const clusterState = z.object({
  name: z.string(),
  waiting: z.number().int(),
  running: z.number().int(),
  problem: z.string().nullable(),
})

export type ClusterProfile = z.infer<typeof clusterProfile>
export type ClusterFinding = z.infer<typeof clusterFinding>
export type ClusterState = z.infer<typeof clusterState>
