import { z } from 'zod'

/** Size of a pruned model in one format, computed from tensor sizes alone. */
export const formatOutline = z.object({
  format: z.string(),
  /** Weight type of a GGUF file. */
  type: z.string().nullable(),
  /** Bytes on disk, and bytes of keys and values in half precision for 1,000 tokens; null if the format cannot hold the model. */
  bytes: z.number().nullable(),
  keyValueBytes: z.number().nullable(),
  /** Lower bounds before the method has decided, if they differ from the upper bounds above. */
  least: z.object({ bytes: z.number(), keyValueBytes: z.number() }).optional(),
  /** Why the format may turn out unable to hold the model. */
  perhaps: z.string().optional(),
  /** Warnings: what is stored as zeros, where the context ends. */
  notes: z.array(z.string()),
  /** Why the format cannot hold the model. */
  problem: z.string().nullable(),
})

/** A saved file or folder reopened: its answers compared with the model it was saved from. */
const reloadTest = z.object({
  tokens: z.number().int(),
  perplexity: z.number(),
  /** For the pruned model before saving. */
  expected: z.number(),
  /** How many of the first greedy tokens are equal. */
  equalTokens: z.number().int(),
  greedyTokens: z.number().int(),
})

/** One file or folder written by a save. */
export const savedFile = z.object({
  format: z.string(),
  type: z.string().nullable(),
  path: z.string(),
  bytes: z.number(),
  /** Null if Espalier cannot read the format. */
  reload: reloadTest.nullable(),
})

export type FormatOutline = z.infer<typeof formatOutline>
export type ReloadTest = z.infer<typeof reloadTest>
export type SavedFile = z.infer<typeof savedFile>
