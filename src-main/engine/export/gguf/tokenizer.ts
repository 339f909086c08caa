import { join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { GgufValue } from '#engine/checkpoint/gguf/cursor.ts'
import { readHeader } from '#engine/checkpoint/gguf/header.ts'
import type { MetadataEntries, MetadataValue } from '#engine/checkpoint/gguf/write-gguf.ts'
import { exists } from '#engine/checkpoint/regular-file.ts'
import { gpt2Pattern, llama3Pattern, qwen2Pattern } from '#engine/tokenizer/patterns.ts'
import { beginsTexts, readTokenizerFiles, type TokenizerFiles } from '#engine/tokenizer/tokenizer-files.ts'
import { type AddedToken, addedTokensOf, renumbered, renumberIds, trimTokenizer } from '#engine/tokenizer/trim-tokenizer.ts'
import { openRegular } from '#runtime/small-file.ts'

/** ggml's kinds of tokens. */
const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const

/** What a tokenizer's metadata needs from the model's config. */
interface TokenizerContext {
  /** Number of rows of the embedding. The list of tokens is padded to this length. */
  readonly vocabulary: number
  readonly config: Readonly<Record<string, unknown>>
  /** The rows that stay, if some are removed. */
  readonly kept?: readonly number[] | undefined
}

/**
 * The tokenizer of a model as GGUF metadata: ids, kinds, merges or scores, how text is split, special ids and chat template. A model
 * without a tokenizer gets an entry that says so. The tokenizer of a GGUF file is copied. Throws `infeasible` for a kind of tokenizer that
 * llama.cpp lacks.
 */
export async function tokenizerMetadata(path: string, context: TokenizerContext): Promise<MetadataEntries> {
  const { kept } = context
  if (path.toLowerCase().endsWith('.gguf')) return kept ? trimEntries(await copied(path), kept) : copied(path)
  if (!(await exists(join(path, 'tokenizer.json')))) return new Map([['tokenizer.ggml.model', { kind: 'text', value: 'no_vocab' }]])
  const files = await readTokenizerFiles(path)
  if (!kept) return describeTokenizer(files, context)
  const config = renumberIds(context.config, renumbered(kept))
  return describeTokenizer(trimTokenizer(files, kept), { vocabulary: kept.length, config })
}

const ggml = 'tokenizer.ggml.'
/** Entries that repeat the whole tokenizer in another form. */
const otherForms = /^tokenizer\.huggingface\.|\.added_tokens$/

/** Trims the metadata of a tokenizer: lists with an entry for each token, merges, and ids of special tokens. */
function trimEntries(entries: MetadataEntries, kept: readonly number[]): MetadataEntries {
  const ids = renumbered(kept)
  const tokens = entries.get(`${ggml}tokens`)?.value
  const left = new Set(Array.isArray(tokens) ? kept.map((id) => tokens[id] as string) : [])
  const isLeft = (merge: string) => {
    const [one, other] = splitMerge(merge)
    return [one, other, one + other].every((token) => left.has(token))
  }
  const trimmed: MetadataEntries = new Map()
  for (const [key, entry] of entries) {
    if (otherForms.test(key)) continue
    const name = key.startsWith(ggml) ? key.slice(ggml.length) : ''
    if (name === 'merges' && entry.kind === 'texts') trimmed.set(key, { ...entry, value: entry.value.filter(isLeft) })
    else if (['tokens', 'scores', 'token_type'].includes(name)) trimmed.set(key, keepRows(entry, kept))
    else if (/_token_id$/.test(name) && entry.kind === 'integer') {
      const id = ids.get(entry.value)
      if (id !== undefined) trimmed.set(key, { ...entry, value: id })
    } else trimmed.set(key, entry)
  }
  return trimmed
}

function keepRows(entry: MetadataValue, kept: readonly number[]): MetadataValue {
  const rows = <T>(values: readonly T[]) => kept.flatMap((id) => values[id] ?? [])
  if (entry.kind === 'texts') return { ...entry, value: rows(entry.value) }
  if (entry.kind === 'integers' || entry.kind === 'floats') return { ...entry, value: rows(entry.value) }
  return entry
}

async function copied(file: string): Promise<MetadataEntries> {
  const handle = await openRegular(file)
  try {
    const { metadata } = await readHeader(handle, file)
    const entries = [...metadata].filter(([key]) => key.startsWith('tokenizer.'))
    return new Map(entries.flatMap(([key, value]) => asEntry(key, value)))
  } finally {
    await handle.close()
  }
}

function asEntry(key: string, value: GgufValue): [string, MetadataValue][] {
  if (typeof value === 'string') return [[key, { kind: 'text', value }]]
  if (typeof value === 'boolean') return [[key, { kind: 'flag', value }]]
  if (typeof value === 'number') return [[key, { kind: 'integer', value }]]
  if (value.every((entry) => typeof entry === 'string')) return [[key, { kind: 'texts', value }]]
  if (!value.every((entry) => typeof entry === 'number')) return []
  return [[key, { kind: key.endsWith('scores') ? 'floats' : 'integers', value }]]
}

interface TokenizerModel {
  readonly type?: string
  readonly vocab: Readonly<Record<string, number>>
  readonly merges?: readonly (string | readonly [string, string])[]
  readonly byte_fallback?: boolean
  readonly ignore_merges?: boolean
  readonly unk_token?: string | null
}

/** The metadata of a tokenizer.json and the files beside it. */
export function describeTokenizer(files: TokenizerFiles, { vocabulary, config }: TokenizerContext): MetadataEntries {
  const { tokenizer, settings } = files
  const model = tokenizer.model as TokenizerModel
  if ((model.type ?? 'BPE') !== 'BPE' || Array.isArray(model.vocab) || !model.merges)
    throw refuse(`Espalier cannot write tokenizers of the kind ${model.type ?? 'unknown'}`)
  const pieces = model.byte_fallback === true
  const merges = model.merges.map((merge) => (typeof merge === 'string' ? splitMerge(merge) : merge))
  const metadata: MetadataEntries = new Map()
  const text = (key: string, value: string) => metadata.set(`tokenizer.${key}`, { kind: 'text', value })
  const flag = (key: string, value: boolean) => metadata.set(`tokenizer.ggml.${key}`, { kind: 'flag', value })
  const added = addedTokensOf(tokenizer)
  const { tokens, types } = listTokens(model, added, vocabulary, pieces)
  text('ggml.model', pieces ? 'llama' : 'gpt2')
  if (!pieces) text('ggml.pre', splitName(tokenizer, model))
  metadata.set('tokenizer.ggml.tokens', { kind: 'texts', value: tokens })
  metadata.set('tokenizer.ggml.token_type', { kind: 'integers', value: types })
  if (pieces) metadata.set('tokenizer.ggml.scores', { kind: 'floats', value: scoresOf(tokens, merges) })
  else metadata.set('tokenizer.ggml.merges', { kind: 'texts', value: merges.map(([left, right]) => `${left} ${right}`) })
  if (pieces) flag('add_space_prefix', JSON.stringify([tokenizer.normalizer, tokenizer.pre_tokenizer]).includes('epend'))
  flag('add_bos_token', beginsTexts(files))
  flag('add_eos_token', settings.add_eos_token === true)
  for (const [key, id] of specialIds(files, config, tokens)) metadata.set(`tokenizer.ggml.${key}_token_id`, { kind: 'integer', value: id })
  if (files.chatTemplate !== undefined) text('chat_template', files.chatTemplate)
  return metadata
}

function refuse(reason: string): EspalierError {
  return new EspalierError('infeasible', `llama.cpp does not support this model's tokenizer: ${reason}. Choose the format stock or exact.`)
}

function splitMerge(merge: string): readonly [string, string] {
  const border = merge.indexOf(' ', 1)
  return [merge.slice(0, border), merge.slice(border + 1)]
}

function splitName(tokenizer: TokenizerFiles['tokenizer'], model: TokenizerModel): string {
  const name = nameSplit(tokenizer.pre_tokenizer, model.ignore_merges === true)
  if (name === undefined) throw refuse('it splits text by a rule that llama.cpp has no name for')
  return name
}

function listTokens(model: TokenizerModel, added: readonly AddedToken[], vocabulary: number, pieces: boolean) {
  const tokens = Array.from({ length: vocabulary }, (_, id) => `[PAD${id}]`)
  const types: number[] = tokens.map(() => kinds.unused)
  const place = (id: number, token: string, type: number) => {
    if (id >= vocabulary) throw refuse(`its token ${id} is beyond the model's vocabulary of ${vocabulary}`)
    tokens[id] = token
    types[id] = type
  }
  for (const [token, id] of Object.entries(model.vocab)) {
    const byte = pieces && /^<0x[0-9A-F]{2}>$/.test(token)
    place(id, token, byte ? kinds.byte : pieces && token === (model.unk_token ?? '<unk>') ? kinds.unknown : kinds.normal)
  }
  for (const { id, content, special } of added)
    if (types[id] !== kinds.unknown) place(id, content, special ? kinds.control : kinds.userDefined)
  return { tokens, types }
}

/** Gives each piece a score that keeps the order of merges: the results of earlier merges have higher scores. */
function scoresOf(tokens: readonly string[], merges: readonly (readonly [string, string])[]): number[] {
  const ranks = new Map<string, number>()
  for (const [rank, [left, right]] of merges.entries()) if (!ranks.has(left + right)) ranks.set(left + right, rank)
  return tokens.map((token) => (ranks.has(token) ? -1 - (ranks.get(token) as number) : 0))
}

function specialIds(files: TokenizerFiles, config: Readonly<Record<string, unknown>>, tokens: readonly string[]): [string, number][] {
  const contentOf = (value: unknown) => (typeof value === 'string' ? value : (value as { content?: string } | null | undefined)?.content)
  const { settings } = files
  const idOf = (token: unknown, fallback: unknown) => {
    const content = contentOf(token)
    const found = content === undefined ? -1 : tokens.indexOf(content)
    const [given] = Array.isArray(fallback) ? fallback : [fallback]
    return found >= 0 ? found : typeof given === 'number' && given >= 0 && given < tokens.length ? given : undefined
  }
  const ids: [string, number | undefined][] = [
    ['bos', idOf(settings.bos_token, config.bos_token_id)],
    ['eos', idOf(settings.eos_token, config.eos_token_id)],
    ['unknown', idOf(settings.unk_token, undefined)],
    ['padding', idOf(settings.pad_token, config.pad_token_id)],
  ]
  return ids.filter((entry): entry is [string, number] => entry[1] !== undefined)
}

type Step = Readonly<Record<string, unknown>>

/** llama.cpp's name (`tokenizer.ggml.pre`) for how a byte-level tokenizer splits text before it merges bytes; undefined if it has none. */
export function nameSplit(preTokenizer: unknown, ignoresMerges: boolean): string | undefined {
  const word = stepsOf(preTokenizer).map(describeStep).filter(Boolean).join(' ')
  const name = Object.hasOwn(names, word) ? names[word] : undefined
  return name === 'dbrx' && ignoresMerges ? 'llama-bpe' : name
}

const names: Readonly<Record<string, string>> = {
  gpt2: 'gpt-2',
  'digits gpt2': 'smollm',
  llama3: 'dbrx',
  qwen2: 'qwen2',
  o200k: 'gpt-4o',
}

function stepsOf(preTokenizer: unknown): Step[] {
  if (typeof preTokenizer !== 'object' || preTokenizer === null) return []
  const { type, pretokenizers } = preTokenizer as Step
  return type === 'Sequence' && Array.isArray(pretokenizers) ? pretokenizers.flatMap(stepsOf) : [preTokenizer as Step]
}

function describeStep(step: Step): string {
  if (step.type === 'ByteLevel') return step.add_prefix_space === true ? 'prefix' : step.use_regex === false ? '' : 'gpt2'
  if (step.type === 'Digits') return step.individual_digits === true ? 'digits' : 'numbers'
  const pattern = step.type === 'Split' ? (step.pattern as Step | undefined)?.Regex : undefined
  if (typeof pattern !== 'string' || step.invert === true || step.behavior !== 'Isolated') return String(step.type)
  if (pattern === gpt2Pattern) return 'gpt2'
  if (pattern === llama3Pattern) return 'llama3'
  if (pattern === qwen2Pattern) return 'qwen2'
  // GPT-4o's pattern, in which a word ends where an upper-case letter follows a lower-case one.
  return pattern.includes(String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`) && pattern.includes(String.raw`\p{N}{1,3}`) ? 'o200k' : 'unknown'
}
