import { z } from 'zod'

/** One file on the hub: repository (`owner/name`) of a model or data set, revision (branch, tag or commit), and path inside it. */
export const hubFile = z.object({
  kind: z.enum(['model', 'dataset']),
  repository: z.string(),
  revision: z.string(),
  path: z.string(),
})

export type HubFile = z.infer<typeof hubFile>

/** Returns the local path of a hub file, downloading it if it is missing. */
export type FetchHubFile = (file: HubFile) => Promise<string>
