import { isObject, type JsonObject } from '#engine/checkpoint/json.ts'
import { mergesOf } from './merge-tree.ts'
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

/** Names of config entries that hold ids of special tokens. */
const specialIdKeys = /_token_ids?$/
/** Names of the other entries that hold ids of tokens. */
const otherIdKeys = /^pad_id$|^(begin_)?suppress_tokens$|^bad_words_ids$|_token_index$/

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
      if (specialIdKeys.test(key) || otherIdKeys.test(key)) return [key, renumber(value)]
      return [key, isObject(value) ? renumberIds(value, ids) : value]
    }),
  )
}

/** Ids of special tokens that a config names, which must be kept. Suppressed tokens need not be. */
export function idsNamedBy(config: JsonObject): number[] {
  return Object.entries(config).flatMap(([key, value]) => {
    if (isObject(value)) return idsNamedBy(value)
    if (!specialIdKeys.test(key)) return []
    return [value].flat().filter((id): id is number => Number.isInteger(id) && (id as number) >= 0)
  })
}
