import { EspalierError } from '#contract/errors.ts'
import type { GeneratedToken, GenerationEvent } from '#contract/playground/generation.ts'
import type { Completion } from '#contract/playground/playground.ts'

type Answer = Completion['answers'][number]

/** Collects the events of one column into answers. */
export class Collected {
  /** The problem of the first answer that failed; null while none has failed. */
  problem: string | null = null
  readonly #answers: Answer[] = []
  readonly #promptTokens = new Map<number, number>()
  readonly #scored = new Map<number, GeneratedToken[]>()

  take(event: GenerationEvent): void {
    if (event.type === 'prompt') this.#promptTokens.set(event.prompt, event.tokens)
    else if (event.type === 'scored prompt') this.#scored.set(event.prompt, event.tokens)
    else if (event.type === 'answer') {
      const { type: _, ...answer } = event
      const { prompt } = answer
      this.problem ??= answer.problem
      this.#answers.push({ ...answer, promptTokens: this.#promptTokens.get(prompt) ?? 0, scored: this.#scored.get(prompt) ?? null })
    }
  }

  /** Returns the answers so far. Throws if one of them failed. */
  answers(): Answer[] {
    if (this.problem !== null) throw new EspalierError('invalid', this.problem)
    return this.#answers
  }
}
