import { randomInt } from 'node:crypto'
import type { Input } from '#contract/api.ts'
import type { GeneratedToken } from '#contract/playground/generation.ts'
import type { Completion } from '#contract/playground/playground.ts'
import type { ChatBody, CompletionsBody } from './requests.ts'

type CompletionRequest = Input<'playground.complete'>
type Prompt = CompletionRequest['prompts'][number]
export type Answer = Completion['answers'][number]

/** A request to the workbench, and what is needed to put its answer into OpenAI's form. */
export interface Asked {
  readonly request: CompletionRequest
  /** Answers to each prompt. */
  readonly choices: number
  readonly streams: boolean
  readonly tellsUsage: boolean
  /** Whether the answer repeats the prompt. */
  readonly echoes: boolean
  /** How many of the likeliest tokens are listed for each token; null without log-probabilities. */
  readonly logprobs: number | null
}

/** The fields that begin every answer. */
export interface Head {
  readonly id: string
  readonly created: number
  readonly model: string
}

/** A piece of a streamed answer. */
export interface Piece {
  readonly index: number
  readonly text: string
  /** The tokens of the piece; empty for an echoed prompt, and for text that was held back until the end. */
  readonly tokens: readonly GeneratedToken[]
  /** The tokens of an echoed prompt; empty except in the answer's first piece. */
  readonly scored: readonly GeneratedToken[]
  /** Number of characters of the answer before this piece. */
  readonly offset: number
}

/** The form of an answer: of completions, or of a chat. */
export interface Kind {
  readonly prefix: string
  whole(head: Head, asked: Asked, answers: readonly Answer[]): unknown
  /** The choice that begins a streamed answer; undefined if there is none. */
  opening(index: number): unknown
  piece(asked: Asked, piece: Piece): unknown
  closing(index: number, reason: string): unknown
  readonly streamed: string
}

/** Builds the workbench's request. Each prompt is repeated once per choice, each time with another seed. */
export function ask(
  body: CompletionsBody | ChatBody,
  prompts: readonly Omit<Prompt, 'seed'>[],
  { maxTokens, logprobs, echoes }: { maxTokens: number; logprobs: number | null; echoes: boolean },
): Asked {
  const choices = body.n ?? 1
  const first = Math.abs(body.seed ?? randomInt(2 ** 31))
  const stop = [body.stop ?? []].flat().filter((text) => text !== '')
  const decoding = {
    kind: 'sampling' as const,
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    topK: Math.max(0, body.top_k ?? 0),
    minP: body.min_p ?? 0,
    repetitionPenalty: body.repetition_penalty ?? 1,
  }
  return {
    request: {
      model: body.model,
      prompts: prompts.flatMap((prompt, place) =>
        Array.from({ length: choices }, (_, choice) =>
          choice === 0 ? { ...prompt, seed: first } : { text: '', sameAs: place * choices, seed: first + choice },
        ),
      ),
      settings: { decoding, maxTokens, alternatives: logprobs ?? 0, ...(stop.length > 0 ? { stop } : {}) },
      scoresPrompts: echoes,
    },
    choices,
    streams: body.stream ?? false,
    tellsUsage: body.stream_options?.include_usage ?? false,
    echoes,
    logprobs,
  }
}

export const finishReason = ({ end }: Pick<Answer, 'end'>): 'length' | 'stop' => (end === 'length' ? 'length' : 'stop')

/** Counts the tokens read and written. The tokens of a prompt with several answers count once. */
export function usageOf(answers: readonly Answer[], choices: number, completion = sum(answers.map(({ tokens }) => tokens.length))) {
  const prompt = sum(answers.filter((_, index) => index % choices === 0).map(({ promptTokens }) => promptTokens))
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
}

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0)
