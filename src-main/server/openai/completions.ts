import type { GeneratedToken } from '#contract/playground/generation.ts'
import { type Answer, type Asked, ask, finishReason, type Kind, usageOf } from './kinds.ts'
import { completionLogprobs } from './logprobs.ts'
import type { CompletionsBody } from './requests.ts'

/** The default of OpenAI's API. */
const completionTokens = 16

/** The workbench's request for `/v1/completions`. */
export function askCompletions(body: CompletionsBody): Asked {
  return ask(body, promptsOf(body.prompt), {
    maxTokens: body.max_tokens ?? completionTokens,
    logprobs: body.logprobs ?? null,
    echoes: body.echo ?? false,
  })
}

/** Returns the prompts of a request, which gives one or several, as text or as token ids. */
function promptsOf(prompt: CompletionsBody['prompt']) {
  if (typeof prompt === 'string') return [{ text: prompt }]
  const isOneList = typeof prompt[0] === 'number'
  const several = (isOneList ? [prompt] : prompt) as (string | number[])[]
  return several.map((one) => (typeof one === 'string' ? { text: one } : { text: '', continueFrom: one }))
}

/** The form of answers of `/v1/completions`. */
export const completionsKind: Kind = {
  prefix: 'cmpl',
  streamed: 'text_completion',
  whole: (head, asked, answers) => ({
    ...head,
    object: 'text_completion',
    choices: answers.map((answer, index) => choice(asked, answer, index)),
    usage: usageOf(answers, asked.choices),
  }),
  opening: () => undefined,
  piece: ({ logprobs }, { index, text, tokens, scored, offset }) => ({
    index,
    text: textOf(scored) + text,
    logprobs: logprobs === null ? null : completionLogprobs(scored, tokens, logprobs, offset),
    finish_reason: null,
  }),
  closing: (index, reason) => ({ index, text: '', logprobs: null, finish_reason: reason }),
}

function choice({ echoes, logprobs }: Asked, answer: Answer, index: number) {
  const scored = echoes ? (answer.scored ?? []) : []
  return {
    index,
    text: textOf(scored) + answer.text,
    logprobs: logprobs === null ? null : completionLogprobs(scored, answer.tokens, logprobs),
    finish_reason: finishReason(answer),
  }
}

const textOf = (tokens: readonly GeneratedToken[]): string => tokens.map(({ text }) => text).join('')
