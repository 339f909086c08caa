import type { LikelihoodModel, LikelihoodRequest } from '#engine/evaluation/tasks/score.ts'

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

/**
 * A model whose next-token probability depends on the previous token: `probability(previous, next)`. It records the requests that it gets.
 */
export class TableModel implements LikelihoodModel {
  readonly contextLength: number
  readonly batches: LikelihoodRequest[][] = []
  readonly #probability: (previous: string, next: string) => number

  constructor(contextLength: number, probability: (previous: string, next: string) => number) {
    this.contextLength = contextLength
    this.#probability = probability
  }

  async logProbabilities(requests: readonly LikelihoodRequest[], signal: AbortSignal): Promise<number[][]> {
    signal.throwIfAborted()
    this.batches.push([...requests])
    return requests.map(({ prefix, continuations }) => continuations.map((continuation) => this.#score(prefix, continuation)))
  }

  #score(prefix: Int32Array, continuation: Int32Array): number {
    const letters = [...prefix.slice(-1), ...continuation].map((id) => String.fromCodePoint(id))
    return letters.slice(1).reduce((sum, letter, index) => sum + Math.log(this.#probability(letters[index] ?? '', letter)), 0)
  }
}
