import { z } from 'zod'
import { plan } from './plan.ts'
import { backendName } from './run-request.ts'

/** How the next token is chosen. Sampling with temperature 0 is greedy. */
export const decoding = z.discriminatedUnion('kind', [
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

/** `template` says whether the prompt goes through the model's chat template; `maxTokens` counts new tokens, `maxLength` all. */
export const generationSettings = z.object({
  decoding: decoding.default({ kind: 'sampling', temperature: 0.8, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 }),
  template: z.enum(['raw', 'chat']).default('raw'),
  system: z.string().max(20_000).optional(),
  maxTokens: z.number().int().positive().max(8192).default(128),
  maxLength: z.number().int().positive().optional(),
  seed: z.number().int().nonnegative().default(0),
  alternatives: z.number().int().min(0).max(20).default(5),
})

export const alternative = z.object({ id: z.number().int(), text: z.string(), probability: z.number() })
export const generatedToken = alternative.extend({ alternatives: z.array(alternative) })

/** One prompt. `continueFrom` are token ids of an answer's beginning that are taken as given (continue from an alternative). */
export const generationPrompt = z.object({
  text: z.string().max(100_000),
  continueFrom: z.array(z.number().int().nonnegative()).optional(),
})

/** What the compute process gets: one model, several plans over it (null: as it is), the same prompts for each. */
export const generationRequest = z.object({
  model: z.string(),
  columns: z
    .array(z.object({ plan: plan.nullable() }))
    .min(1)
    .max(6),
  prompts: z.array(generationPrompt).min(1),
  settings: generationSettings,
  backend: backendName,
  memoryBytes: z.number().int().positive().optional(),
})

export const answerEnd = z.enum(['end of text', 'length', 'stopped', 'failed'])

/** What one column tells while it generates. `column` and `prompt` are positions in the request. */
export const generationEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('prompt'), column: z.number().int(), prompt: z.number().int(), tokens: z.number().int(), text: z.string() }),
  z.object({ type: z.literal('token'), column: z.number().int(), prompt: z.number().int(), token: generatedToken }),
  z.object({
    type: z.literal('answer'),
    column: z.number().int(),
    prompt: z.number().int(),
    text: z.string(),
    tokens: z.array(generatedToken),
    end: answerEnd,
    seconds: z.number(),
    firstTokenSeconds: z.number().nullable(),
    tokensPerSecond: z.number().nullable(),
    problem: z.string().nullable(),
  }),
])

export type Decoding = z.infer<typeof decoding>
export type GenerationSettings = z.infer<typeof generationSettings>
export type Alternative = z.infer<typeof alternative>
export type GeneratedToken = z.infer<typeof generatedToken>
export type GenerationRequest = z.infer<typeof generationRequest>
export type GenerationEvent = z.infer<typeof generationEvent>
