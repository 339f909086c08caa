import { EspalierError } from '#contract/errors.ts'
import { isObject, type JsonObject } from '#engine/checkpoint/json.ts'
import { MergeTree, mergesOf } from './merge-tree.ts'
import type { Tokenizer } from './tokenizer.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'
import { addedTokensOf, idsNamedBy, tokensById } from './trim-tokenizer.ts'

/** How many rows stay, and which of them stay even if the text does not use them. */
export interface KeptRequest {
  /** The number of rows, or the share of the text's tokens that the kept rows cover. */
  readonly target: { readonly rows: number } | { readonly coverage: number }
  /**
   * Pseudo-count in tokens, added to the counts in proportion to 1 / (id + 1), because ids follow the order of merges and early ones are
   * common. With 0, only the text counts.
   */
  readonly prior: number
  /** Scripts whose characters stay, by their Unicode names, besides all characters below U+3000. */
  readonly scripts: readonly string[]
  /** Texts whose tokens stay. */
  readonly texts?: readonly string[]
}

/** Kept ids in ascending order, how many of them stay in any case, and the share of the text's tokens that they cover. */
export interface KeptTokens {
  readonly kept: number[]
  /** All ids in the order in which they would be kept: those that always stay, and then each after the tokens that BPE builds it from. */
  readonly order: number[]
  readonly always: number
  readonly covered: number
}

/** Single characters below this code point always stay, because models have hardly seen the bytes that would replace them. */
const keptBelow = 0x3000

/** Names of added tokens without a meaning, which are reserved for later use. No text has them. */
const placeholder = /unused|reserved|\[PAD\d+\]/i

/**
 * Chooses the rows of a vocabulary that stay: bytes, special tokens, tokens of the chat template, single characters, and then those that a
 * text uses most. With a token stay all tokens that BPE builds it from. So text whose ids are all kept is encoded as before.
 * @param rows rows of the embedding, which may be more than the tokenizer has tokens
 * @param named ids that the model's config names
 */
export async function chooseTokens(
  files: TokenizerFiles,
  tokenizer: Tokenizer,
  counts: Float64Array,
  { target, prior, scripts, texts = [] }: KeptRequest,
  { rows, named }: { rows: number; named: readonly number[] },
  pauseIfDue: () => Promise<unknown> = async () => undefined,
): Promise<KeptTokens> {
  const tokens = tokensById(files.tokenizer)
  const buildOf = buildsOf(files, tokens, rows)
  const always = new Set<number>()
  for (const id of [...alwaysKept(files, tokenizer, tokens, scripts, texts), ...named.filter((id) => id < rows)])
    if (tokens.has(id)) {
      addAll(always, buildOf(id))
      await pauseIfDue()
    }
  const ranked = rankTokens(tokens, counts, prior, rows)
  const total = counts.reduce((sum, count) => sum + count, 0)
  if ('rows' in target) requireRows(target.rows, always.size, new Set([...always, ...ranked]).size)
  else if (total === 0)
    throw new EspalierError('invalid', 'The text has no tokens, so nothing is known of its coverage. Choose another text.')
  const limit = 'rows' in target ? target : { tokens: target.coverage * total }
  const { kept, covered } = await fillToLimit(always, ranked, buildOf, counts, limit, pauseIfDue)
  const order = new Set(always)
  for (const id of ranked) {
    if (!order.has(id)) addAll(order, buildOf(id))
    await pauseIfDue()
  }
  return {
    kept: [...kept].sort((a, b) => a - b),
    order: [...order],
    always: always.size,
    covered: total === 0 ? 1 : covered / total,
  }
}

type BuildOf = (id: number) => readonly number[]

/** Returns a function that gives an id with the ids of all tokens that BPE builds its token from. */
function buildsOf(files: TokenizerFiles, tokens: ReadonlyMap<number, string>, rows: number): BuildOf {
  const ids = new Map([...tokens].map(([id, token]) => [token, id]))
  const tree = new MergeTree(mergesOf(requirePlain(files)))
  return (id) => [id, ...tree.partsOf(tokens.get(id) ?? '').flatMap((part) => ids.get(part) ?? [])].filter((one) => one < rows)
}

function addAll(to: Set<number>, ids: Iterable<number>): void {
  for (const id of ids) to.add(id)
}

/**
 * Adds tokens by rank, each with those that it is built from, until there are so many rows, or rows that cover so many tokens of the text.
 * A token that needs more rows than are left is passed over.
 */
async function fillToLimit(
  always: ReadonlySet<number>,
  ranked: readonly number[],
  buildOf: BuildOf,
  counts: Float64Array,
  limit: { readonly rows: number } | { readonly tokens: number },
  pauseIfDue: () => Promise<unknown>,
): Promise<{ kept: ReadonlySet<number>; covered: number }> {
  const kept = new Set(always)
  const countOf = (ids: Iterable<number>) => [...ids].reduce((sum, id) => sum + (counts[id] ?? 0), 0)
  let covered = countOf(kept)
  for (const id of ranked) {
    if ('rows' in limit ? kept.size >= limit.rows : covered >= limit.tokens) break
    await pauseIfDue()
    const added = new Set(buildOf(id).filter((one) => !kept.has(one)))
    if ('rows' in limit && kept.size + added.size > limit.rows) continue
    addAll(kept, added)
    covered += countOf(added)
  }
  return { kept, covered }
}

function requireRows(asked: number, always: number, most: number): void {
  if (asked < always)
    throw new EspalierError(
      'infeasible',
      `${asked.toLocaleString('en')} rows are fewer than the ${always.toLocaleString('en')} that always stay: bytes, special tokens, the chat template and single characters. Keep at least ${always.toLocaleString('en')}.`,
    )
  if (asked > most)
    throw new EspalierError(
      'infeasible',
      `${asked.toLocaleString('en')} rows are more than the ${most.toLocaleString('en')} tokens of this tokenizer. Keep at most ${most.toLocaleString('en')}.`,
    )
}

/** Ids from the most to the least useful; of equal ones, the lower first. */
function rankTokens(tokens: ReadonlyMap<number, string>, counts: Float64Array, prior: number, rows: number): number[] {
  const candidates = [...tokens.keys()].filter((id) => id < rows)
  const harmonic = candidates.reduce((sum, id) => sum + 1 / (id + 1), 0)
  const scoreOf = (id: number) => (counts[id] ?? 0) + prior / harmonic / (id + 1)
  const scores = new Map(candidates.map((id) => [id, scoreOf(id)]))
  return candidates.sort((a, b) => (scores.get(b) ?? 0) - (scores.get(a) ?? 0) || a - b)
}

function* alwaysKept(
  { tokenizer, chatTemplate, beginId, endIds, generation, beginToken, endToken }: TokenizerFiles,
  own: Tokenizer,
  tokens: ReadonlyMap<number, string>,
  scripts: readonly string[],
  texts: readonly string[],
): Generator<number> {
  const template = chatTemplate ?? ''
  for (const { id, content, special } of addedTokensOf(tokenizer)) {
    const isText = special !== true && /^[\s▁]+$/.test(content)
    if (template.includes(content) || !(isText || placeholder.test(content))) yield id
  }
  for (const text of [template, ...texts]) yield* own.encode(text)
  yield* [...endIds, ...(beginId === undefined ? [] : [beginId]), ...idsNamedBy(generation ?? {})]
  const named = new Set([beginToken, endToken, unknownOf(tokenizer), ...processorTokens(tokenizer.post_processor)])
  const isKept = characterTest(tokenizer, scripts)
  for (const [id, token] of tokens) if (named.has(token) || isKept(token)) yield id
}

function unknownOf({ model }: JsonObject): string | undefined {
  if (!isObject(model)) return undefined
  if (typeof model.unk_token === 'string') return model.unk_token
  const entry =
    Array.isArray(model.vocab) && typeof model.unk_id === 'number' ? (model.vocab as [string, number][])[model.unk_id] : undefined
  return entry?.[0]
}

/** The tokens that a post-processor puts around a text. */
function processorTokens(part: unknown): string[] {
  if (!isObject(part)) return []
  const pairs = [part.sep, part.cls].flatMap((pair) => (Array.isArray(pair) ? [String(pair[0])] : []))
  const special = isObject(part.special_tokens) ? Object.keys(part.special_tokens) : []
  return [...pairs, ...special, ...(Array.isArray(part.processors) ? part.processors.flatMap(processorTokens) : [])]
}

/** Returns whether a token is a byte or a single character that stays. */
function characterTest(tokenizer: JsonObject, scripts: readonly string[]): (token: string) => boolean {
  const wanted = scripts.map(scriptPattern)
  const bytes = isByteLevel(tokenizer) ? bytesByCharacter() : undefined
  return (token) => {
    if (bytes && token.length === 1) return true
    if (/^<0x[\da-f]{2}>$/i.test(token)) return true
    const text = bytes ? decodeBytes(token, bytes) : token
    const point = text?.codePointAt(0)
    if (text === undefined || point === undefined || text.length !== String.fromCodePoint(point).length) return false
    return point < keptBelow || wanted.some((pattern) => pattern.test(text))
  }
}

/** The pattern of one Unicode script. Throws `usage` for an unknown name. */
export function scriptPattern(name: string): RegExp {
  try {
    return new RegExp(`^\\p{Script_Extensions=${name}}$`, 'u')
  } catch {
    throw new EspalierError('usage', `"${name}" is not the Unicode name of a script. Examples are Han, Hiragana, Katakana and Hangul.`)
  }
}

/** Whether each character of a token stands for a byte. */
function isByteLevel({ decoder, pre_tokenizer: splitter }: JsonObject): boolean {
  return JSON.stringify([decoder ?? null, splitter ?? null]).includes('"ByteLevel"')
}

/** The bytes that the characters of byte-level tokens stand for (GPT-2's table). */
function bytesByCharacter(): ReadonlyMap<string, number> {
  let next = 256
  const isPrintable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
  return new Map(Array.from({ length: 256 }, (_, byte) => [String.fromCodePoint(isPrintable(byte) ? byte : next++), byte]))
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The text of a byte-level token; undefined if its bytes are only part of a character. */
function decodeBytes(token: string, bytes: ReadonlyMap<string, number>): string | undefined {
  // A character has at most four bytes, so longer tokens need no look.
  if (token.length > 4) return undefined
  try {
    return utf8.decode(Uint8Array.from(token, (character) => bytes.get(character) ?? 0xff))
  } catch {
    return undefined
  }
}

/** Throws for tokenizers whose merges do not simply join text. */
function requirePlain({ tokenizer, where }: TokenizerFiles): JsonObject {
  const { model } = tokenizer
  if (!isObject(model)) throw new EspalierError('invalid', `${where} has no model.`)
  const marks = [model.continuing_subword_prefix, model.continuing_subword_suffix, model.end_of_word_suffix]
  if ((model.type ?? 'BPE') !== 'BPE' || marks.every((mark) => mark == null || mark === '')) return tokenizer
  throw new EspalierError(
    'infeasible',
    `${where} marks where words continue or end, and its rows cannot be removed. Choose another method.`,
  )
}
