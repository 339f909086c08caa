import { z } from 'zod'
import { id, moment, name, notes, tags } from '../identifiers.ts'
import { enginePrompt, generatedToken, generationPrompt, transcriptAnswer } from './generation.ts'
import { generationSettings } from './generation-settings.ts'

/** A column: an unpruned model, or the plan of a run over its model. */
const playgroundColumn = z.object({ model: id.optional(), run: id.optional() })

/** All columns of a session must belong to one model, so that its weights are loaded once. */
export const sessionRequest = z.object({
  columns: z.array(playgroundColumn).min(1).max(6),
  prompts: z.array(generationPrompt).min(1).max(200),
  settings: generationSettings,
  title: name.optional(),
  blind: z.boolean().default(false),
})

const transcriptColumn = z.object({
  model: z.object({ id, name }),
  run: z.object({ id, name, method: z.string(), reached: z.number().nullable() }).nullable(),
})

/** The user's choice of the best column for one prompt; null if none was better. */
export const vote = z.object({ prompt: z.number().int().nonnegative(), column: z.number().int().nonnegative().nullable() })

export const transcriptEntry = z.object({
  id,
  title: z.string(),
  prompts: z.array(z.string()),
  /** Tags of each prompt, if it has any. */
  promptTags: z.array(tags),
  columns: z.array(transcriptColumn),
  status: z.enum(['running', 'done', 'stopped', 'failed']),
  /** How many answers have text. */
  answered: z.number().int(),
  blind: z.boolean(),
  starred: z.boolean(),
  tags,
  createdAt: moment,
})

export const transcript = transcriptEntry.extend({
  notes,
  settings: generationSettings,
  answers: z.array(transcriptAnswer),
  votes: z.array(vote),
  problem: z.string().nullable(),
})

/** A model or a run that can answer prompts. `id` is the id of that model or run. */
export const answerer = z.object({ id, name, kind: z.enum(['model', 'run']), createdAt: moment })

/** The largest number of prompts in one request. */
export const mostPrompts = 256

/** A request for answers of one model or run, without a transcript. `model` is its id, or its name if no other has this name. */
export const completionRequest = z.object({
  model: z.string().min(1).max(500),
  prompts: z.array(enginePrompt).min(1).max(mostPrompts),
  settings: generationSettings,
  scoresPrompts: z.boolean().default(false),
  /** If set, tokens arrive as `generation` events of this session, and the answers that are returned have none. */
  session: id.optional(),
})

/** The answers in the order of the prompts. `scored` has the prompt's own tokens if the request asked for them. */
export const completion = z.object({
  model: answerer,
  answers: z.array(transcriptAnswer.extend({ promptTokens: z.number().int(), scored: z.array(generatedToken).nullable() })),
})

export const promptSet = z.object({ id, name, prompts: z.array(z.string().min(1).max(100_000)).min(1).max(200), builtIn: z.boolean() })

export type SessionRequest = z.infer<typeof sessionRequest>
export type TranscriptColumn = z.infer<typeof transcriptColumn>
export type TranscriptAnswer = z.infer<typeof transcriptAnswer>
export type Vote = z.infer<typeof vote>
export type TranscriptEntry = z.infer<typeof transcriptEntry>
export type Transcript = z.infer<typeof transcript>
export type Answerer = z.infer<typeof answerer>
export type Completion = z.infer<typeof completion>
export type PromptSet = z.infer<typeof promptSet>

/** Parses one prompt per line. Words with # at the end of a line are its tags. */
export function parsePrompts(text: string): { text: string; tags: string[] }[] {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const [ending = ''] = /(\s+#[^\s#]+)+$/.exec(line) ?? []
      return {
        text: line.slice(0, line.length - ending.length),
        tags: ending
          .split('#')
          .map((tag) => tag.trim())
          .filter(Boolean),
      }
    })
}
