import type { Likelihood, LikelihoodModel, LikelihoodRequest } from '#engine/evaluation/tasks/likelihood-model.ts'

/** A tokenizer of single characters: the id is the code point. `merged` pairs become one id. */
export function characterTokenizer(merged: Record<string, number> = {}) {
  return {
    endIds: [0],
    encode(text: string): number[] {
      const characters = [...text]
      const ids: number[] = []
      for (let i = 0; i < characters.length; i++) {
        const pair = merged[`${characters[i]}${characters[i + 1] ?? ''}`]
        ids.push(pair ?? characters[i]?.codePointAt(0) ?? 0)
        if (pair !== undefined) i += 1
      }
      return ids
    },
  }
}

/** A model whose next-token probability depends on the token before: `probability(previous, next)`. Keeps what it was asked. */
export class TableModel implements LikelihoodModel {
  readonly contextLength: number
  readonly batches: LikelihoodRequest[][] = []
  readonly #probability: (previous: string, next: string) => number

  constructor(contextLength: number, probability: (previous: string, next: string) => number) {
    this.contextLength = contextLength
    this.#probability = probability
  }

  async logProbabilities(requests: LikelihoodRequest[], signal: AbortSignal, report: (done: number) => void): Promise<Likelihood[][]> {
    signal.throwIfAborted()
    this.batches.push(requests)
    report(requests.length)
    return requests.map(({ prefix, continuations }) => continuations.map((continuation) => this.#score(prefix, continuation)))
  }

  #score(prefix: Int32Array, continuation: Int32Array): Likelihood {
    const letters = [...prefix.slice(-1), ...continuation].map((id) => String.fromCodePoint(id))
    const chances = letters.slice(1).map((letter, index) => this.#probability(letters[index] ?? '', letter))
    return { logProbability: chances.reduce((sum, chance) => sum + Math.log(chance), 0), greedy: chances.every((chance) => chance > 0.5) }
  }
}
