import { EspalierError } from '#contract/errors.ts'
import { MergeTree, mergesOf } from './merge-tree.ts'
import { type Tokenizer, tokenizerOf } from './tokenizer.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'
import { renumbered, tokensById, trimTokenizer } from './trim-tokenizer.ts'

/** Encoding a window's text may split its first and last tokens differently; at most this many are replaced one by one. */
const mostAtStart = 16
const mostAtEnd = 4

/** A tokenizer with fewer tokens, and how it reads windows of the whole one. */
export class TrimmedTokenizer {
  readonly tokenizer: Tokenizer
  readonly kept: readonly number[]
  readonly #whole: Tokenizer
  readonly #ids: ReadonlyMap<number, number>
  readonly #tokens: ReadonlyMap<number, string>
  readonly #newIds: ReadonlyMap<string, number>
  readonly #tree: MergeTree

  constructor(whole: Tokenizer, files: TokenizerFiles, kept: readonly number[]) {
    const trimmed = trimTokenizer(files, kept)
    this.tokenizer = tokenizerOf(trimmed)
    this.kept = kept
    this.#whole = whole
    this.#ids = renumbered(kept)
    this.#tokens = tokensById(files.tokenizer)
    this.#newIds = new Map([...tokensById(trimmed.tokenizer)].map(([id, token]) => [token, id]))
    this.#tree = new MergeTree(mergesOf(trimmed.tokenizer))
  }

  /**
   * Reads the text of a window again: the same text, as the trimmed tokenizer's ids. Text is encoded as a whole wherever that gives the
   * window back; tokens at its ends whose text does not are replaced one by one.
   */
  reread(window: Int32Array): Int32Array {
    for (let end = window.length; end >= Math.max(0, window.length - mostAtEnd); end--) {
      for (let start = 0; start <= Math.min(mostAtStart, end); start++) {
        const ids = [...window.subarray(start, end)]
        const text = this.#whole.decode(ids, { cleanUp: false })
        if (!isEqual(this.#whole.encode(text), ids)) continue
        const ends = [window.subarray(0, start), window.subarray(end)].map((own) => [...own].flatMap((id) => this.replace(id)))
        return Int32Array.from([...(ends[0] ?? []), ...this.tokenizer.encode(text), ...(ends[1] ?? [])])
      }
    }
    return Int32Array.from([...window].flatMap((id) => this.replace(id)))
  }

  /** The new ids of one token of the whole vocabulary: its own, or those of its parts that are kept. */
  replace(id: number): number[] {
    const own = this.#ids.get(id)
    if (own !== undefined) return [own]
    const token = this.#tokens.get(id)
    if (token === undefined)
      throw new EspalierError('invalid', `Token id ${id} has no text in the tokenizer, so the trimmed vocabulary cannot read it.`)
    const pieces = this.#tree.pieces(token).map((piece) => this.#newIds.get(piece) ?? this.#bytesOf(piece))
    return pieces.includes(undefined) ? this.tokenizer.encode(this.#whole.decode([id])) : pieces.flatMap((piece) => piece ?? [])
  }

  #bytesOf(piece: string): number[] | undefined {
    const names = [...Buffer.from(piece)].map((byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
    const ids = names.flatMap((name) => this.#newIds.get(name) ?? [])
    return ids.length === names.length ? ids : undefined
  }
}

const isEqual = (one: readonly number[], other: readonly number[]): boolean =>
  one.length === other.length && one.every((id, index) => id === other[index])
