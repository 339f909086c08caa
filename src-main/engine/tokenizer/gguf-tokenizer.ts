import { dirname, join } from 'node:path'
import { EspalierError } from '#contract/errors.ts'
import type { GgufValue } from '../checkpoint/gguf/cursor.ts'
import { readHeader } from '../checkpoint/gguf/header.ts'
import type { JsonObject } from '../checkpoint/json.ts'
import { exists, openRegular } from '../checkpoint/regular-file.ts'
import { gpt2Pattern, llama3Pattern, qwen2Pattern } from './patterns.ts'
import { readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.ts'

/**
 * The tokenizer inside a GGUF file, as the files of a folder would have it. Files say only in part how text is split, so one is made for
 * byte-level pair encodings of known patterns; for others tokenizer.json is taken from beside the file, or asked for.
 */
export async function readGgufTokenizer(file: string): Promise<TokenizerFiles> {
  const metadata = await readMetadata(file)
  const kind = metadata.get('tokenizer.ggml.model')
  const pattern = metadata.get('tokenizer.ggml.pre') ?? 'default'
  const split = kind === 'gpt2' && typeof pattern === 'string' && Object.hasOwn(splits, pattern) ? splits[pattern] : undefined
  if (split) return makeFiles(file, metadata, split)
  const folder = dirname(file)
  if (await exists(join(folder, 'tokenizer.json'))) return readTokenizerFiles(folder)
  const what =
    kind === undefined
      ? 'has no tokenizer'
      : `has a tokenizer of the kind ${String(kind)} (${String(pattern)}), which is not read from GGUF`
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

/** What a `tokenizer.ggml.pre` stands for: normalizer, steps before the bytes, and whether whole words are looked up before merging. */
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
  smollm: singleDigits,
  starcoder: singleDigits,
  refact: singleDigits,
}

function makeFiles(file: string, metadata: ReadonlyMap<string, GgufValue>, split: Split): TokenizerFiles {
  const tokens = readTexts(file, metadata, 'tokenizer.ggml.tokens')
  const merges = readTexts(file, metadata, 'tokenizer.ggml.merges')
  const idOf = (key: string) => {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`)
    return typeof id === 'number' && id >= 0 && id < tokens.length ? id : undefined
  }
  const template = metadata.get('tokenizer.chat_template')
  const [begin, end] = [idOf('bos'), idOf('eos')]
  return {
    where: file,
    tokenizer: makeTokenizer(tokens, merges, metadata.get('tokenizer.ggml.token_type'), split),
    settings: {},
    endIds: [end, idOf('eot')].filter((id) => id !== undefined),
    ...(begin === undefined ? {} : { beginId: begin, beginToken: tokens[begin] as string }),
    ...(end === undefined ? {} : { endToken: tokens[end] as string }),
    ...(typeof template === 'string' ? { chatTemplate: template } : {}),
  }
}

function readTexts(file: string, metadata: ReadonlyMap<string, GgufValue>, key: string): string[] {
  const value = metadata.get(key)
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value
  throw new EspalierError('invalid', `${file} lacks the list ${key} for its tokenizer. It is damaged: fetch it again.`, { file })
}

// Token types of ggml: 3 is control, 4 is defined by the user; both are taken out of a text before it is split.
function makeTokenizer(tokens: string[], merges: string[], types: GgufValue | undefined, split: Split): JsonObject {
  const typeOf = (id: number) => (Array.isArray(types) ? types[id] : 1)
  const added = tokens.flatMap((content, id) => {
    const type = typeOf(id)
    return type === 3 || type === 4
      ? [{ id, content, special: type === 3, normalized: false, single_word: false, lstrip: false, rstrip: false }]
      : []
  })
  return {
    added_tokens: added,
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
