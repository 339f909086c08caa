import { EspalierError } from '#contract/errors.ts'
import { isObject, type JsonObject } from '#engine/checkpoint/json.ts'
import { MergeTree, mergesOf } from './merge-tree.ts'
import { type Tokenizer, tokenizerOf } from './tokenizer.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'

/** A token that is split off before text is encoded. */
export interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special?: boolean
}

export const addedTokensOf = ({ added_tokens: added }: JsonObject): AddedToken[] => (Array.isArray(added) ? (added as AddedToken[]) : [])

/** The text of every token by its id, added tokens included. An id without a token is absent. */
export function tokensById({ model, ...tokenizer }: JsonObject): Map<number, string> {
  const vocab = isObject(model) ? model.vocab : undefined
  const tokens = new Map<number, string>()
  if (Array.isArray(vocab)) for (const [id, [token]] of (vocab as [string, number][]).entries()) tokens.set(id, token)
  else if (isObject(vocab)) for (const [token, id] of Object.entries(vocab)) tokens.set(id as number, token)
  for (const { id, content } of addedTokensOf(tokenizer)) tokens.set(id, content)
  return tokens
}

/** New ids by old ones: kept rows are numbered in their order. */
export const renumbered = (kept: readonly number[]): ReadonlyMap<number, number> => new Map(kept.map((id, row) => [id, row]))

type NewIds = ReadonlyMap<number, number>

/**
 * Returns the files of a tokenizer that knows only the kept tokens, with new ids. A merge goes if one of its parts or what it makes is gone.
 * If the kept tokens are closed under the merges that build them, text whose ids are all kept gets the same tokens.
 */
export function trimTokenizer(files: TokenizerFiles, kept: readonly number[]): TokenizerFiles {
  const ids = renumbered(kept)
  const { tokenizer, settings, beginId, endIds, generation } = files
  const { model, added_tokens: _, post_processor: after, padding, ...rest } = tokenizer
  const begin = beginId === undefined ? undefined : ids.get(beginId)
  const { beginId: __, ...same } = files
  return {
    ...same,
    tokenizer: {
      ...rest,
      added_tokens: addedTokensOf(tokenizer).flatMap((token) => (ids.has(token.id) ? [{ ...token, id: ids.get(token.id) }] : [])),
      model: trimModel(model as JsonObject, tokenizer, ids),
      ...(after === undefined ? {} : { post_processor: renumberProcessor(after, ids) }),
      ...(padding === undefined ? {} : { padding: isObject(padding) ? renumberIds(padding, ids) : padding }),
    },
    settings: renumberSettings(settings, ids),
    endIds: endIds.flatMap((id) => ids.get(id) ?? []),
    ...(begin === undefined ? {} : { beginId: begin }),
    ...(generation ? { generation: renumberIds(generation, ids) } : {}),
  }
}

function trimModel(model: JsonObject, tokenizer: JsonObject, ids: NewIds): JsonObject {
  if (Array.isArray(model.vocab)) {
    const vocab = (model.vocab as unknown[]).filter((__, id) => ids.has(id))
    const unknown = typeof model.unk_id === 'number' ? ids.get(model.unk_id) : undefined
    return { ...model, vocab, unk_id: unknown ?? null }
  }
  const own = Object.entries(model.vocab as Record<string, number>).filter(([, id]) => ids.has(id))
  const vocab = new Map(own)
  const merges = [...mergesOf(tokenizer)].filter(([left, right]) => [left, right, left + right].every((token) => vocab.has(token)))
  return {
    ...model,
    vocab: Object.fromEntries(own.map(([token, id]) => [token, ids.get(id)])),
    ...(Array.isArray(model.merges) ? { merges: merges.map(([left, right]) => [left, right]) } : {}),
  }
}

/** Post-processors name tokens by text and id: `ids` in templates, `[token, id]` in those of BERT and RoBERTa. */
function renumberProcessor(part: unknown, ids: NewIds): unknown {
  if (!isObject(part)) return part
  const { processors, special_tokens: special, sep, cls } = part
  const pair = (value: unknown) => (Array.isArray(value) ? [value[0], ids.get(value[1] as number) ?? value[1]] : value)
  return {
    ...part,
    ...(Array.isArray(processors) ? { processors: processors.map((one) => renumberProcessor(one, ids)) } : {}),
    ...(isObject(special)
      ? { special_tokens: Object.fromEntries(Object.entries(special).map((entry) => renumberSpecial(entry, ids))) }
      : {}),
    ...(sep === undefined ? {} : { sep: pair(sep) }),
    ...(cls === undefined ? {} : { cls: pair(cls) }),
  }
}

function renumberSpecial([name, token]: [string, unknown], ids: NewIds): [string, unknown] {
  if (!isObject(token) || !Array.isArray(token.ids)) return [name, token]
  return [name, { ...token, ids: (token.ids as number[]).map((id) => ids.get(id) ?? id) }]
}

/** tokenizer_config.json with the ids of added tokens replaced. */
export function renumberSettings(settings: JsonObject, ids: NewIds): JsonObject {
  const { added_tokens_decoder: added } = settings
  if (!isObject(added)) return settings
  const left = Object.entries(added).flatMap(([id, token]) => (ids.has(Number(id)) ? [[ids.get(Number(id)), token]] : []))
  return { ...settings, added_tokens_decoder: Object.fromEntries(left) }
}

/** Names of config entries that hold ids of tokens. */
const idKeys = /_token_ids?$|^pad_id$|^(begin_)?suppress_tokens$|^bad_words_ids$|_token_index$/

/**
 * Replaces the ids in a config by new ones, at any depth. An id whose row is gone is left out of a list, is null where it is alone, and takes
 * a list of ids inside a list with it.
 */
export function renumberIds(config: JsonObject, ids: NewIds): JsonObject {
  const renumber = (value: unknown): unknown => {
    if (Number.isInteger(value)) return (value as number) < 0 ? value : (ids.get(value as number) ?? null)
    if (!Array.isArray(value)) return value
    return value.flatMap((one: unknown) => {
      if (Number.isInteger(one)) return ids.get(one as number) ?? []
      return Array.isArray(one) && one.some((id) => Number.isInteger(id) && !ids.has(id as number)) ? [] : [renumber(one)]
    })
  }
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => {
      if (idKeys.test(key)) return [key, renumber(value)]
      return [key, isObject(value) ? renumberIds(value, ids) : value]
    }),
  )
}

/** The ids that a config names alone: those of its special tokens. Tokens that are only suppressed may go. */
export function idsNamedBy(config: JsonObject): number[] {
  return Object.entries(config).flatMap(([key, value]) => {
    if (isObject(value)) return idsNamedBy(value)
    if (!/_token_ids?$/.test(key)) return []
    return [value].flat().filter((id): id is number => Number.isInteger(id) && (id as number) >= 0)
  })
}

/** How many tokens at either end of a window may be cut off from the text of their neighbours. */
const mostAtStart = 16
const mostAtEnd = 4

/** A tokenizer with fewer tokens, and how it reads windows of the whole one. */
export class TrimmedTokenizer {
  readonly tokenizer: Tokenizer
  readonly kept: readonly number[]
  readonly #whole: Tokenizer
  readonly #ids: NewIds
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
