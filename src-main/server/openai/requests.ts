import { z } from 'zod'
import { explainIssues, readWith } from '#contract/explain-issue.ts'
import { tokenIds } from '#contract/playground/generation.ts'
import { mostNewTokens } from '#contract/playground/generation-settings.ts'
import { mostPrompts } from '#contract/playground/playground.ts'
import { Refusal } from '../guard/refusal.ts'

/** Schemas for fields of OpenAI's API that Espalier does not support. Only a value without effect passes. */
const neutral = (value: number) => z.literal(value, 'Espalier does not support this field. Leave it out.').nullish()
const absent = z.union([z.null(), z.tuple([]), z.strictObject({})], 'Espalier does not support this field. Leave it out.').optional()

/** The most answers to one prompt. */
const mostChoices = 16

const shared = {
  model: z.string().min(1).max(500),
  temperature: z.number().min(0).max(5).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.number().int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: z.number().min(0.5).max(3).nullish(),
  seed: z.number().int().nullish(),
  n: z.number().int().min(1).max(mostChoices).nullish(),
  stop: z.union([z.string().max(1000), z.array(z.string().max(1000)).max(16)]).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  presence_penalty: neutral(0),
  frequency_penalty: neutral(0),
  logit_bias: absent,
}

const promptKinds = {
  text: z.string(),
  texts: z.array(z.string()).min(1).max(mostPrompts),
  ids: tokenIds.refine((ids) => ids.length > 0),
  lists: z
    .array(tokenIds.refine((ids) => ids.length > 0))
    .min(1)
    .max(mostPrompts),
}
const promptWords = `Give a text or a list of token ids, or a list of at most ${mostPrompts} of them, none of them empty.`

/** Chooses the kind by the first entry. A union would try all kinds on every entry, which takes seconds for a million token ids. */
const prompt = z.unknown().transform((value, context): string | string[] | number[] | number[][] => {
  const first: unknown = Array.isArray(value) ? value[0] : undefined
  const kind = !Array.isArray(value) ? 'text' : typeof first === 'string' ? 'texts' : Array.isArray(first) ? 'lists' : 'ids'
  const isLong = Array.isArray(value) && kind !== 'ids' && value.length > mostPrompts
  const { data } = isLong ? {} : promptKinds[kind].safeParse(value)
  if (data !== undefined) return data
  context.addIssue(promptWords)
  return z.NEVER
})

const completions = z.object({
  ...shared,
  prompt,
  max_tokens: z.number().int().min(0).max(mostNewTokens).nullish(),
  logprobs: z.number().int().min(0).max(20).nullish(),
  echo: z.boolean().nullish(),
  best_of: neutral(1),
  suffix: z.literal('', 'Espalier does not support this field. Leave it out.').nullish(),
})

const part = z.object({ type: z.literal('text', 'Espalier reads text only.'), text: z.string() })
const message = z.object({ role: z.string().min(1).max(100), content: z.union([z.string(), z.array(part)]) })

const chat = z.object({
  ...shared,
  messages: z.array(message).min(1).max(1000),
  max_tokens: z.number().int().min(1).max(mostNewTokens).nullish(),
  max_completion_tokens: z.number().int().min(1).max(mostNewTokens).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.number().int().min(0).max(20).nullish(),
  tools: absent,
  functions: absent,
  response_format: z.object({ type: z.literal('text', 'Espalier answers with text only.') }).nullish(),
})

export type CompletionsBody = z.output<typeof completions>
export type ChatBody = z.output<typeof chat>

export const readCompletions = (body: unknown): CompletionsBody => read(completions, body)
export const readChat = (body: unknown): ChatBody => read(chat, body)

/** Reads a body. Ignores unknown fields, because clients send some that only describe the client. */
function read<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const { success, data, error } = readWith(schema, body)
  if (success) return data
  const [issue] = explainIssues(error, body)
  throw new BadField(issue?.message ?? 'The body does not have the expected form.', issue?.field || null)
}

/** The refusal of a body, with the name of the field at fault. */
export class BadField extends Refusal {
  readonly param: string | null

  constructor(message: string, param: string | null) {
    super(400, message)
    this.param = param
  }
}
