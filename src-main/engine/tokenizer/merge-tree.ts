import { isObject, type JsonObject } from '#engine/checkpoint/json.ts'

/** The merges of a byte-pair encoding, as text: how it builds a token from its characters. */
export class MergeTree {
  /** The place of each merge, by its two parts. Of a repeated merge, the last place counts, as in the tokenizers library. */
  readonly #ranks = new Map<string, number>()

  constructor(merges: Iterable<readonly [string, string]>) {
    let rank = 0
    for (const [left, right] of merges) this.#ranks.set(pairOf(left, right), rank++)
  }

  /**
   * Merges the characters of a text until no merge applies: always the earliest merge, and of equal ones the leftmost. Calls `made` with
   * everything that a merge makes on the way.
   */
  pieces(text: string, made: (piece: string) => void = () => undefined): string[] {
    const pieces = [...text]
    while (pieces.length > 1) {
      let [best, place] = [Number.POSITIVE_INFINITY, -1]
      for (let index = 0; index + 1 < pieces.length; index++) {
        const rank = this.#ranks.get(pairOf(pieces[index] as string, pieces[index + 1] as string))
        if (rank !== undefined && rank < best) [best, place] = [rank, index]
      }
      if (place < 0) break
      pieces.splice(place, 2, `${pieces[place]}${pieces[place + 1]}`)
      made(pieces[place] as string)
    }
    return pieces
  }

  /**
   * Everything that has to stay with a token so that the same merges still build it: its characters, and what is made on the way. Several
   * merges may make one token; this follows the one that is used. A token that no merge reaches needs nothing else.
   */
  partsOf(token: string): string[] {
    const made: string[] = []
    const [only, ...others] = this.pieces(token, (piece) => made.push(piece))
    return only === token && others.length === 0 ? [...new Set([...token, ...made])] : []
  }
}

const pairOf = (left: string, right: string): string => `${left}\0${right}`

/** The merges of a tokenizer.json, each as its two parts. Empty for models that have none. */
export function* mergesOf({ model }: JsonObject): Generator<readonly [string, string]> {
  const merges = isObject(model) && Array.isArray(model.merges) ? (model.merges as unknown[]) : []
  for (const merge of merges) {
    if (Array.isArray(merge)) yield merge as unknown as readonly [string, string]
    else if (typeof merge === 'string') yield [merge.slice(0, merge.indexOf(' ', 1)), merge.slice(merge.indexOf(' ', 1) + 1)]
  }
}
