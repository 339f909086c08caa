import { z } from 'zod'

/** How the next token is chosen. Sampling with temperature 0 is greedy. */
const decoding = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('sampling'),
    temperature: z.number().min(0).max(5).default(0.8),
    topK: z.number().int().nonnegative().default(0),
    topP: z.number().gt(0).max(1).default(1),
    minP: z.number().min(0).max(1).default(0),
    repetitionPenalty: z.number().min(0.5).max(3).default(1),
  }),
  z.object({
    kind: z.literal('beam'),
    beams: z.number().int().min(1).max(16).default(5),
    noRepeatNgram: z.number().int().nonnegative().default(3),
    earlyStopping: z.boolean().default(true),
  }),
])

/** The largest number of tokens in one answer. */
export const mostNewTokens = 8192

/**
 * `template` says whether the model's chat template is applied. If `turns` is true, the prompts are one conversation. `maxTokens` limits
 * new tokens, `maxLength` all tokens. An answer ends before any of the strings in `stop`.
 */
export const generationSettings = z.object({
  decoding: decoding.default({ kind: 'sampling', temperature: 0.8, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 }),
  template: z.enum(['raw', 'chat']).default('raw'),
  turns: z.boolean().optional(),
  system: z.string().max(20_000).optional(),
  maxTokens: z.number().int().nonnegative().max(mostNewTokens).default(128),
  maxLength: z.number().int().positive().optional(),
  stop: z.array(z.string().min(1).max(1000)).max(16).optional(),
  seed: z.number().int().nonnegative().default(0),
  alternatives: z.number().int().min(0).max(20).default(5),
})

export type GenerationSettings = z.infer<typeof generationSettings>
