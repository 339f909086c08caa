import { z } from 'zod'

/** What a pruned model would weigh in one format, worked out from sizes alone. */
export const formatOutline = z.object({
  format: z.string(),
  /** Of a GGUF file: how its weights are stored. */
  type: z.string().nullable(),
  /** Bytes on the disk, and of keys and values in half precision for 1,000 tokens of context; null where the format cannot hold the model. */
  bytes: z.number().nullable(),
  keyValueBytes: z.number().nullable(),
  /** Before anything is decided: what it may come to at least, where that differs from the most, which stands above. */
  least: z.object({ bytes: z.number(), keyValueBytes: z.number() }).optional(),
  /** Why it may turn out that the format cannot hold the model. */
  perhaps: z.string().optional(),
  /** What a reader should know: what stands as zeros, where the context ends. */
  notes: z.array(z.string()),
  /** Why the format cannot hold the model. */
  problem: z.string().nullable(),
})

/** A saved file or folder opened again: its answers beside those of the model that it was saved from. */
export const reloadTest = z.object({
  tokens: z.number().int(),
  perplexity: z.number(),
  /** Of the pruned model before it was saved. */
  expected: z.number(),
  /** Of the first greedy tokens, how many are the same. */
  equalTokens: z.number().int(),
  greedyTokens: z.number().int(),
})

/** One thing that a save wrote. */
export const savedFile = z.object({
  format: z.string(),
  type: z.string().nullable(),
  path: z.string(),
  bytes: z.number(),
  /** Null where this program does not read the format. */
  reload: reloadTest.nullable(),
})

export type FormatOutline = z.infer<typeof formatOutline>
export type ReloadTest = z.infer<typeof reloadTest>
export type SavedFile = z.infer<typeof savedFile>
