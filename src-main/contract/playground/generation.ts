import { z } from 'zod'
import { plan } from '../pruning/plan.ts'
import { backendName } from '../runs/run-request.ts'
import { generationSettings } from './generation-settings.ts'

const alternative = z.object({ id: z.number().int(), text: z.string(), probability: z.number() })
export const generatedToken = alternative.extend({ alternatives: z.array(alternative) })

const isTokenId = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0

/** Token ids. There may be a million, so they are checked as a whole: an array schema would collect an issue for each of them. */
export const tokenIds = z
  .custom<number[]>((value) => Array.isArray(value) && value.every(isTokenId), 'Give a list of token ids, which are whole numbers from 0.')
  .meta({ type: 'array', items: { type: 'integer', minimum: 0 } })

/** A prompt. `continueFrom` has the token ids that the answer must begin with, for continuing from an alternative. */
export const generationPrompt = z.object({
  text: z.string().max(100_000),
  continueFrom: tokenIds.optional(),
})

const chatMessage = z.object({ role: z.string().min(1).max(100), content: z.string().max(1_000_000) })

/** A prompt for the engine. If set, `messages` go through the chat template instead of `text`. `seed` overrides the settings. */
export const enginePrompt = generationPrompt.extend({
  messages: z.array(chatMessage).min(1).max(1000).optional(),
  /** For each column, its turns of the conversation before `text`. */
  histories: z.array(z.array(chatMessage)).optional(),
  seed: z.number().int().nonnegative().optional(),
  /** The index of an earlier prompt, if this one asks the same with another seed. Its own text and ids are then not used. */
  sameAs: z.number().int().nonnegative().optional(),
})

/**
 * A request to the compute process to generate text: one model, several plans over it (null: unpruned), and the same prompts for each.
 * `fingerprint` is that of the model that the plan was made for; null if the run does not record it. With `scoresPrompts`, the
 * probabilities of the prompts' own tokens are reported too.
 */
export const generationRequest = z.object({
  model: z.string(),
  columns: z
    .array(z.object({ plan: plan.nullable(), fingerprint: z.string().nullable() }))
    .min(1)
    .max(6),
  prompts: z.array(enginePrompt).min(1),
  settings: generationSettings,
  scoresPrompts: z.boolean().optional(),
  backend: backendName,
  memoryBytes: z.number().int().positive().optional(),
})

const answerEnd = z.enum(['end of text', 'stop text', 'length', 'stopped', 'failed'])

export const transcriptAnswer = z.object({
  column: z.number().int(),
  prompt: z.number().int(),
  text: z.string(),
  tokens: z.array(generatedToken),
  end: answerEnd,
  seconds: z.number(),
  firstTokenSeconds: z.number().nullable(),
  tokensPerSecond: z.number().nullable(),
  problem: z.string().nullable(),
})

/**
 * Progress of one column. `column` and `prompt` are indices into the request. Tokens of a scored prompt have the probabilities that the
 * model gives them, and arrive in pieces. The first token has probability 1, because nothing precedes it.
 */
export const generationEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('prompt'), column: z.number().int(), prompt: z.number().int(), tokens: z.number().int(), text: z.string() }),
  z.object({ type: z.literal('scored prompt'), column: z.number().int(), prompt: z.number().int(), tokens: z.array(generatedToken) }),
  z.object({ type: z.literal('token'), column: z.number().int(), prompt: z.number().int(), token: generatedToken }),
  transcriptAnswer.extend({ type: z.literal('answer') }),
])

export type Alternative = z.infer<typeof alternative>
export type GeneratedToken = z.infer<typeof generatedToken>
export type GenerationRequest = z.infer<typeof generationRequest>
export type GenerationEvent = z.infer<typeof generationEvent>
