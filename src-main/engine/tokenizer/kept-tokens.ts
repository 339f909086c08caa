import { EspalierError } from '#contract/errors.ts'
import { isObject, type JsonObject } from '#engine/checkpoint/json.ts'
import { MergeTree, mergesOf } from './merge-tree.ts'
import type { Tokenizer } from './tokenizer.ts'
import type { TokenizerFiles } from './tokenizer-files.ts'
import { addedTokensOf, idsNamedBy, tokensById } from './trim-tokenizer.ts'

/** How many rows stay, and which do whatever the text says. */
export interface KeptRequest {
  /** The number of rows, or the share of the text's tokens that the kept rows cover. */
  readonly target: { readonly rows: number } | { readonly coverage: number }
  /** Tokens of a text that never was, spread by 1 / (id + 1): ids follow the merge order, so early ones are common. 0: counts only. */
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

/** Characters below this stay: models hardly ever saw the bytes that would replace a quote, a dash or a letter. */
const keptBelow = 0x3000

/** Names of added tokens that no text has. They have rows only so that others may give them a meaning. */
const placeholder = /unused|reserved|\[PAD\d+\]/i

/**
 * Chooses the rows of a vocabulary that stay: bytes, special tokens, tokens of the chat template, single characters, and then those that a
 * text uses most. With a token stay all tokens that BPE builds it from. So text whose ids are all kept is encoded as before.
 * @param rows rows of the embedding, which may be more than the tokenizer has tokens
 * @param named ids that the model's config names
 */
export function chooseTokens(
  files: TokenizerFiles,
  tokenizer: Tokenizer,
  counts: Float64Array,
  { target, prior, scripts, texts = [] }: KeptRequest,
  { rows, named }: { rows: number; named: readonly number[] },
): KeptTokens {
  const tokens = tokensById(files.tokenizer)
  const ids = new Map([...tokens].map(([id, token]) => [token, id]))
  const tree = new MergeTree(mergesOf(requirePlain(files)))
  const kept = new Set<number>()
  const missing = (id: number) => {
    const parts = [id, ...tree.partsOf(tokens.get(id) ?? '').flatMap((part) => ids.get(part) ?? [])]
    return [...new Set(parts)].filter((one) => !kept.has(one) && one < rows)
  }
  const keep = (id: number) => {
    for (const one of missing(id)) kept.add(one)
  }
  for (const id of alwaysKept(files, tokenizer, tokens, scripts, texts)) if (tokens.has(id)) keep(id)
  for (const id of named) if (id < rows && tokens.has(id)) keep(id)
  const always = kept.size
  const total = counts.reduce((sum, count) => sum + count, 0)
  const ranked = rankTokens(tokens, counts, prior, rows)
  let covered = [...kept].reduce((sum, id) => sum + (counts[id] ?? 0), 0)
  const isEnough = () => ('rows' in target ? kept.size >= target.rows : covered >= target.coverage * total)
  if ('rows' in target) requireRows(target.rows, always, new Set([...kept, ...ranked]).size)
  else if (total === 0)
    throw new EspalierError('invalid', 'The text has no tokens, so nothing is known of its coverage. Choose another text.')
  for (const id of ranked) {
    if (isEnough()) break
    const added = missing(id)
    if ('rows' in target && kept.size + added.length > target.rows) continue
    for (const one of added) {
      kept.add(one)
      covered += counts[one] ?? 0
    }
  }
  const chosen = [...kept].sort((a, b) => a - b)
  for (const id of [...kept].slice(always)) kept.delete(id)
  for (const id of ranked) if (!kept.has(id)) keep(id)
  return { kept: chosen, order: [...kept], always, covered: total === 0 ? 1 : covered / total }
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

const utf8 = new TextDecoder('utf-8', { fatal: true })

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
