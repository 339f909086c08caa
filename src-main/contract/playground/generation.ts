import { z } from 'zod'
import { plan } from '../pruning/plan.ts'
import { backendName } from '../runs/run-request.ts'
import { generationSettings } from './generation-settings.ts'

const alternative = z.object({ id: z.number().int(), text: z.string(), probability: z.number() })
const generatedToken = alternative.extend({ alternatives: z.array(alternative) })

/** One prompt. `continueFrom` are the token ids of a given beginning of the answer (to continue from an alternative). */
export const generationPrompt = z.object({
  text: z.string().max(100_000),
  continueFrom: z.array(z.number().int().nonnegative()).optional(),
})

/**
 * A generation request to the compute process: one model, several plans over it (null: unchanged), the same prompts for each. `fingerprint`
 * is of the model that the plan was made for; null if the run does not record it.
 */
export const generationRequest = z.object({
  model: z.string(),
  columns: z
    .array(z.object({ plan: plan.nullable(), fingerprint: z.string().nullable() }))
    .min(1)
    .max(6),
  prompts: z.array(generationPrompt).min(1),
  settings: generationSettings,
  backend: backendName,
  memoryBytes: z.number().int().positive().optional(),
})

const answerEnd = z.enum(['end of text', 'length', 'stopped', 'failed'])

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

/** Progress of one column. `column` and `prompt` are indices into the request. */
export const generationEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('prompt'), column: z.number().int(), prompt: z.number().int(), tokens: z.number().int(), text: z.string() }),
  z.object({ type: z.literal('token'), column: z.number().int(), prompt: z.number().int(), token: generatedToken }),
  transcriptAnswer.extend({ type: z.literal('answer') }),
])

export type Alternative = z.infer<typeof alternative>
export type GeneratedToken = z.infer<typeof generatedToken>
export type GenerationRequest = z.infer<typeof generationRequest>
export type GenerationEvent = z.infer<typeof generationEvent>
