import { dirname, join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { GgufValue } from '#engine/checkpoint/gguf/cursor.ts'
import { readHeader } from '#engine/checkpoint/gguf/header.ts'
import { firstPart } from '#engine/checkpoint/gguf/parts.ts'
import type { JsonObject } from '#engine/checkpoint/json.ts'
import { exists } from '#engine/checkpoint/regular-file.ts'
import { openRegular } from '#runtime/small-file.ts'
import { gpt2Pattern, gpt4oPattern, llama3Pattern, qwen2Pattern } from './patterns.ts'
import { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.ts'

/** The name of SentencePiece models in GGUF files, whatever the family. */
const sentencePiece = 'llama'

/**
 * Reads the tokenizer inside a GGUF file, in the form of a folder's files. GGUF files name their pattern for splitting text without
 * spelling it out, so only SentencePiece tokenizers and byte-level ones with a known pattern can be built. For others, tokenizer.json must
 * be beside the file.
 */
export async function readGgufTokenizer(file: string): Promise<TokenizerFiles> {
  const metadata = await readMetadata(firstPart(file))
  const kind = metadata.get('tokenizer.ggml.model')
  const pattern = metadata.get('tokenizer.ggml.pre') ?? 'default'
  const split = kind === 'gpt2' && typeof pattern === 'string' && Object.hasOwn(splits, pattern) ? splits[pattern] : undefined
  if (split)
    return makeFiles(file, metadata, (tokens, types) =>
      makeByteLevel(tokens, readTexts(file, metadata, 'tokenizer.ggml.merges'), types, split),
    )
  if (kind === sentencePiece) {
    const scores = readScores(file, metadata)
    const addsPrefix = metadata.get('tokenizer.ggml.add_space_prefix') !== false
    return makeFiles(file, metadata, (tokens, types) => makeSentencePiece(tokens, scores, types, addsPrefix))
  }
  const folder = dirname(file)
  if (await exists(join(folder, 'tokenizer.json'))) return readTokenizerFiles(folder)
  const what =
    kind === undefined
      ? 'has no tokenizer'
      : `has a tokenizer of the kind ${String(kind)} (${String(pattern)}), which Espalier cannot read from GGUF`
  throw new EspalierError('not-found', `${file} ${what}. Place the model's tokenizer.json beside it.`, { file })
}

async function readMetadata(file: string): Promise<ReadonlyMap<string, GgufValue>> {
  const handle = await openRegular(file)
  try {
    return (await readHeader(handle, file)).metadata
  } finally {
    await handle.close()
  }
}

/**
 * The meaning of a value of `tokenizer.ggml.pre`: the normalizer, the steps before text becomes bytes, and whether whole words are looked
 * up before merging.
 */
interface Split {
  normalizer?: string
  steps: JsonObject[]
  wholeWords?: boolean
}

const isolate = (Regex: string): JsonObject => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })
const gpt2: Split = { steps: [isolate(gpt2Pattern)] }
const llama3: Split = { steps: [isolate(llama3Pattern)], wholeWords: true }
const singleDigits: Split = { steps: [{ type: 'Digits', individual_digits: true }, isolate(gpt2Pattern)] }

const splits: Readonly<Record<string, Split>> = {
  default: gpt2,
  'gpt-2': gpt2,
  'llama-bpe': llama3,
  llama3,
  'llama-v3': llama3,
  qwen2: { normalizer: 'NFC', steps: [isolate(qwen2Pattern)] },
  // Llama 3's pattern, but its words are always merged.
  dbrx: { steps: [isolate(llama3Pattern)] },
  'smaug-bpe': { steps: [isolate(llama3Pattern)] },
  'gpt-4o': { steps: [isolate(gpt4oPattern)] },
  smollm: singleDigits,
  starcoder: singleDigits,
  refact: singleDigits,
}

/** Token types of ggml, which may be missing. */
type TypeOf = (id: number) => unknown

function makeFiles(
  file: string,
  metadata: ReadonlyMap<string, GgufValue>,
  make: (tokens: string[], typeOf: TypeOf) => JsonObject,
): TokenizerFiles {
  const tokens = readTexts(file, metadata, 'tokenizer.ggml.tokens')
  const types = metadata.get('tokenizer.ggml.token_type')
  const idOf = (key: string) => {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`)
    return typeof id === 'number' && id >= 0 && id < tokens.length ? id : undefined
  }
  const template = metadata.get('tokenizer.chat_template')
  const [begin, end] = [idOf('bos'), idOf('eos')]
  const isUsual = metadata.get('tokenizer.ggml.model') === sentencePiece || splits[String(metadata.get('tokenizer.ggml.pre'))] === llama3
  const begins = metadata.get('tokenizer.ggml.add_bos_token') ?? isUsual // llama.cpp's default
  return {
    where: file,
    tokenizer: make(tokens, (id) => (Array.isArray(types) ? types[id] : 1)),
    settings: { add_bos_token: begins === true },
    endIds: [end, idOf('eot')].filter((id) => id !== undefined),
    ...(begin === undefined ? {} : { beginId: begin, beginToken: tokens[begin] as string }),
    ...(end === undefined ? {} : { endToken: tokens[end] as string }),
    ...(typeof template === 'string' ? { chatTemplate: template } : {}),
  }
}

function readTexts(file: string, metadata: ReadonlyMap<string, GgufValue>, key: string): string[] {
  const value = metadata.get(key)
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value
  throw new EspalierError('invalid', `${file} lacks the list ${key} for its tokenizer. The file is damaged. Download it again.`, { file })
}

function readScores(file: string, metadata: ReadonlyMap<string, GgufValue>): number[] {
  const value = metadata.get('tokenizer.ggml.scores')
  if (Array.isArray(value) && value.every((item) => typeof item === 'number')) return value
  throw new EspalierError(
    'invalid',
    `${file} lacks the list tokenizer.ggml.scores for its tokenizer. The file is damaged. Download it again.`,
    {
      file,
    },
  )
}

function makeByteLevel(tokens: string[], merges: string[], typeOf: TypeOf, split: Split): JsonObject {
  return {
    added_tokens: addedTokens(tokens, typeOf),
    normalizer: split.normalizer === undefined ? null : { type: split.normalizer },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...split.steps, { type: 'ByteLevel', add_prefix_space: false, use_regex: false }] },
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
      ignore_merges: split.wholeWords === true,
    },
  }
}

/**
 * The tokens that are split off before text is encoded, in the form of tokenizer.json: those of ggml's token types 3 (control) and 4
 * (user-defined).
 */
function addedTokens(tokens: readonly string[], typeOf: (id: number) => unknown): JsonObject[] {
  return tokens.flatMap((content, id) => {
    const type = typeOf(id)
    if (type !== 3 && type !== 4) return []
    return [{ id, content, special: type === 3, normalized: false, single_word: false, lstrip: false, rstrip: false }]
  })
}

/**
 * Makes the tokenizer.json of a SentencePiece model of the byte-pair kind from its pieces and their scores. Neighbouring pieces that form
 * another piece are merged, the best score first. Characters without a piece become bytes.
 */
function makeSentencePiece(
  tokens: readonly string[],
  scores: readonly number[],
  typeOf: (id: number) => unknown,
  addsPrefix: boolean,
): JsonObject {
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  const unknown = tokens.findIndex((_, id) => typeOf(id) === 2)
  return {
    added_tokens: addedTokens(tokens, typeOf),
    normalizer: { type: 'Sequence', normalizers: [...(addsPrefix ? [{ type: 'Prepend', prepend: '▁' }] : []), replace] },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(addsPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      unk_token: tokens[unknown] ?? null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: mergesOf(tokens, scores, typeOf),
    },
  }
}

/**
 * Every pair of pieces that together form a third piece, ordered by the score of the third, best first. Pairs that form the same piece are
 * ordered by the ids of their pieces.
 */
function mergesOf(tokens: readonly string[], scores: readonly number[], typeOf: (id: number) => unknown): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const pairs: { left: number; right: number; score: number }[] = []
  for (const [id, token] of tokens.entries()) {
    // Control tokens and byte tokens are never the result of a merge.
    if (typeOf(id) === 3 || typeOf(id) === 6) continue
    for (let border = 1; border < token.length; border++) {
      const [left, right] = [ids.get(token.slice(0, border)), ids.get(token.slice(border))]
      if (left !== undefined && right !== undefined) pairs.push({ left, right, score: scores[id] ?? 0 })
    }
  }
  pairs.sort((a, b) => b.score - a.score || a.left - b.left || a.right - b.right)
  return pairs.map(({ left, right }) => [tokens[left] as string, tokens[right] as string])
}
