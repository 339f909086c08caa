import { z } from 'zod'

/** A file on the hub: the repository (`owner/name`) of a model or data set, the revision (branch, tag or commit), and the path inside. */
export const hubFile = z.object({
  kind: z.enum(['model', 'dataset']),
  repository: z.string(),
  revision: z.string(),
  path: z.string(),
})

export type HubFile = z.infer<typeof hubFile>

/** Returns the local path of a hub file, downloading it if it is missing. */
export type FetchHubFile = (file: HubFile) => Promise<string>
