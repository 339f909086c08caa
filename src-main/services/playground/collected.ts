import { EspalierError } from '#contract/errors.ts'
import type { GeneratedToken, GenerationEvent } from '#contract/playground/generation.ts'
import type { Completion } from '#contract/playground/playground.ts'

type Answer = Completion['answers'][number]

/** How many probabilities the answers of one request may list. They take about 100 bytes each. */
const mostListed = 500_000

/** Collects the events of one column into answers. */
export class Collected {
  /** The problem of the first answer that failed; null while none has failed. */
  problem: string | null = null
  readonly #keepsTokens: boolean
  readonly #answers: Answer[] = []
  readonly #promptTokens = new Map<number, number>()
  readonly #scored = new Map<number, GeneratedToken[]>()
  #listed = 0

  /** @param keepsTokens whether the answers have their tokens, or only their text because the tokens arrive as events */
  constructor(keepsTokens: boolean) {
    this.#keepsTokens = keepsTokens
  }

  take(event: GenerationEvent): void {
    if (event.type === 'prompt') this.#promptTokens.set(event.prompt, event.tokens)
    else if (event.type === 'scored prompt') this.#keepScored(event.prompt, event.tokens)
    else if (event.type === 'token') this.#count([event.token])
    else {
      const { type: _, ...answer } = event
      const { prompt } = answer
      this.problem ??= answer.problem
      const tokens = this.#keepsTokens ? answer.tokens : []
      this.#answers.push({ ...answer, tokens, promptTokens: this.#promptTokens.get(prompt) ?? 0, scored: this.#scored.get(prompt) ?? null })
    }
  }

  #keepScored(prompt: number, tokens: readonly GeneratedToken[]): void {
    this.#count(tokens)
    if (!this.#keepsTokens || this.problem !== null) return
    const known = this.#scored.get(prompt) ?? []
    for (const token of tokens) known.push(token)
    this.#scored.set(prompt, known)
  }

  #count(tokens: readonly GeneratedToken[]): void {
    if (!this.#keepsTokens) return
    for (const { alternatives } of tokens) this.#listed += 1 + alternatives.length
    if (this.#listed > mostListed)
      this.problem ??= `The answer would list more than ${mostListed.toLocaleString('en')} probabilities. Ask for fewer alternatives or prompts, or stream the answer.`
  }

  /** Returns the answers so far. Throws if one of them failed. */
  answers(): Answer[] {
    if (this.problem !== null) throw new EspalierError('invalid', this.problem)
    return this.#answers
  }
}
