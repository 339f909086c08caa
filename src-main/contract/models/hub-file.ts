import { z } from 'zod'

/** One file on the hub: the repository (`owner/name`) of a model or a data set, a revision (branch, tag or commit) and the path inside. */
export const hubFile = z.object({
  kind: z.enum(['model', 'dataset']),
  repository: z.string(),
  revision: z.string(),
  path: z.string(),
})

export type HubFile = z.infer<typeof hubFile>

/** Gives the path on disk of a hub file, downloading it first where it is not there yet. */
export type FetchHubFile = (file: HubFile) => Promise<string>
