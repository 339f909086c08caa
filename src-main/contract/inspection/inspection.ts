import { z } from 'zod'
import { dataRequest } from '../data/data-request.ts'
import { id, tags } from '../identifiers.ts'
import { generationSettings } from '../playground/generation-settings.ts'

/** Finished runs of one model to inspect. */
const subjects = z.array(id).min(1)

/** One prompt of an unattended generation, with its tags. */
const taggedPrompt = z.object({ text: z.string().min(1).max(100_000), tags: tags.default([]) })

/** A run that inspects other runs instead of pruning: their divergence from the dense model, or their answers to prompts. */
export const inspection = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('divergence'), runs: subjects.max(5), data: dataRequest }),
  z.object({
    kind: z.literal('generation'),
    runs: subjects.max(50),
    /** Whether the dense model answers too. It then comes first. */
    dense: z.boolean().default(true),
    prompts: z.array(taggedPrompt).min(1).max(1000),
    settings: generationSettings,
  }),
])

export type Inspection = z.infer<typeof inspection>
export type DivergenceRequest = Extract<Inspection, { kind: 'divergence' }>
export type AnswersRequest = Extract<Inspection, { kind: 'generation' }>

/** Returns the label of the step that holds a page of tokens. */
export const pageStep = (page: number): string => `page ${page}`
