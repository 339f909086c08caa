import { stat } from 'node:fs/promises'
import { Tokenizer as Library } from '@huggingface/tokenizers'
import { EspalierError } from '#contract/errors.ts'
import { isObject, type JsonObject, reasonOf } from '#engine/checkpoint/json.ts'
import { allowFor, underLimits } from '#engine/limits/reading.ts'
import { findBorder, findWords } from './borders.ts'
import { type ChatMessage, type ChatOptions, ChatTemplate } from './chat-template.ts'
import { readGgufTokenizer } from './gguf-tokenizer.ts'
import { beginsTexts, readTokenizerFiles, type TokenizerFiles } from './tokenizer-files.ts'

/** Converts text to ids and back, in the same way as in the model's training. */
export interface Tokenizer {
  /** One more than the largest id. */
  readonly size: number
  /** Returns the ids of a text, without special tokens around it. Special tokens spelled out in the text become their ids. */
  encode(text: string): number[]
  /**
   * Cuts a text into pieces, such that the concatenated ids of the pieces are the ids of the whole text. Appending text changes only the
   * last piece.
   */
  split(text: string): string[]
  /** Cuts a piece of `split` into the shortest parts whose concatenated ids are those of the piece. Most of them repeat within a text. */
  words(piece: string): readonly string[]
  /** Returns the text of ids. Ids that the tokenizer does not know are skipped; a padded vocabulary has such ids. */
  decode(ids: readonly number[], options?: DecodeOptions): string
  /** Returns how many UTF-8 bytes of text an id covers. */
  bytesOf(id: number): number
  /**
   * Returns the prompt that the model's chat template makes from messages, to be encoded unchanged; undefined if the model has no template.
   */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): string | undefined
  /** Whether the model has a chat template. */
  readonly chats: boolean
  /** Ids that end an answer. */
  readonly endIds: readonly number[]
  /** The id that begins a text, if the model has one. */
  readonly beginId?: number
  /** The same id, if the model's own encoder puts it before every text. `encode` does not add it; the caller must. */
  readonly prefixId?: number
}

interface DecodeOptions {
  /** Whether special tokens are left out. */
  skipSpecial?: boolean
  /** Whether spaces before punctuation are dropped. Default: as the model's tokenizer_config.json says. */
  cleanUp?: boolean
}

/**
 * Opens the tokenizer of a model folder: tokenizer.json and, if present, tokenizer_config.json, chat_template.jinja, generation_config.json
 * and config.json; or the one of a .gguf file. Throws `not-found` if there is no tokenizer, and `invalid` if it cannot be used.
 */
export function openTokenizer(path: string): Promise<Tokenizer> {
  return underLimits(`The tokenizer of ${path}`, () => readTokenizer(path))
}

const readTokenizer = async (path: string): Promise<Tokenizer> => createTokenizer(await readFiles(path))

async function readFiles(path: string): Promise<TokenizerFiles> {
  const inGguf = (await stat(path).catch(() => undefined))?.isFile() ?? path.toLowerCase().endsWith('.gguf')
  return inGguf ? readGgufTokenizer(path) : readTokenizerFiles(path)
}

/** Reads the files that `openTokenizer` opens. */
export function openTokenizerFiles(path: string): Promise<TokenizerFiles> {
  return underLimits(`The tokenizer of ${path}`, () => readFiles(path))
}

/** Makes a tokenizer of files that were read and changed. */
export function tokenizerOf(files: TokenizerFiles): Tokenizer {
  return underLimits(`The tokenizer ${files.where}`, () => createTokenizer(files))
}

/** Creates a tokenizer from parsed files. */
function createTokenizer(files: TokenizerFiles): Tokenizer {
  const library = openLibrary(files)
  const [cut, words] = [findBorder(files.tokenizer), findWords(files.tokenizer)]
  const template = files.chatTemplate === undefined ? undefined : new ChatTemplate(files.chatTemplate, files)
  const usualCleanUp = files.settings.clean_up_tokenization_spaces === true
  const encodePiece = (text: string): number[] => library.encode(text, { add_special_tokens: false }).ids
  const split = (text: string): string[] => (cut ? cut(text) : [text])
  /** Calls the library under limits. The library does not check the files' settings, so any failure is blamed on the file. */
  const use = <T>(what: string, length: number, work: () => T): T =>
    underLimits(`The tokenizer ${files.where}`, () => {
      allowFor(length)
      try {
        return work()
      } catch (error) {
        throw new EspalierError(
          'invalid',
          `${files.where} cannot ${what}: ${reasonOf(error)}. Use the tokenizer.json that belongs to the model.`,
        )
      }
    })
  return {
    size: largestId(library) + 1,
    encode: (text) => use('encode text', text.length, () => split(text).flatMap(encodePiece)),
    split,
    words: words ?? ((piece) => [piece]),
    decode: (ids, { skipSpecial = false, cleanUp = usualCleanUp } = {}) => {
      const known = ids.filter((id) => library.id_to_token(id) !== undefined)
      if (known.length === 0) return ''
      const options = { skip_special_tokens: skipSpecial, clean_up_tokenization_spaces: cleanUp }
      return use('decode ids', known.length, () => library.decode(known, options))
    },
    bytesOf: byteCounter(files.tokenizer, (id) => library.id_to_token(id)),
    chats: template !== undefined,
    chat: (messages, options) => template?.render(messages, options),
    ...specialIds(library, files),
  }
}

/** Encodes a text as the model's own encoder does, with the begin token before it. */
export const encodeText = (tokenizer: Pick<Tokenizer, 'encode' | 'prefixId'>, text: string): number[] =>
  withBegin(tokenizer, tokenizer.encode(text))

/** Puts the begin token before the ids of a text if the model's own encoder does. A chat template may already have written the token. */
export function withBegin({ prefixId }: Pick<Tokenizer, 'prefixId'>, ids: number[]): number[] {
  return prefixId === undefined || ids.length === 0 || ids[0] === prefixId ? ids : [prefixId, ...ids]
}

/** Throws if the tokenizer can produce ids for which a model of this vocabulary size has no embedding. */
export function checkVocabulary(tokenizer: Tokenizer, vocabularySize: number): void {
  if (tokenizer.size <= vocabularySize) return
  throw new EspalierError(
    'invalid',
    `The tokenizer has ids up to ${tokenizer.size - 1}, but the model's vocabulary ends at ${vocabularySize - 1}. Use the tokenizer that belongs to the model.`,
  )
}

/** A sentence on what a model without a tokenizer cannot do, and what to do about it. */
export function withoutTokenizer(what: string, model = 'This model'): string {
  return `${model} has no tokenizer.json, so it cannot ${what}. Place its tokenizer.json in the folder.`
}

function openLibrary({ tokenizer, settings, where }: TokenizerFiles): Library {
  const complete = { added_tokens: [], decoder: null, post_processor: null, pre_tokenizer: null, normalizer: null, ...tokenizer }
  try {
    const library = new Library(complete, settings)
    // The library creates parts of the tokenizer on first use, so a short text shows whether it works.
    const { ids } = library.encode('a b')
    if (ids.length > 0) library.decode(ids, { skip_special_tokens: true })
    return library
  } catch (error) {
    throw new EspalierError(
      'invalid',
      `${where} cannot be used: ${reasonOf(error)}. Use a tokenizer.json of a BPE, Unigram or WordPiece model.`,
    )
  }
}

function largestId(library: Library): number {
  let largest = -1
  for (const id of library.get_vocab(true).values()) if (id > largest) largest = id
  return largest
}

function specialIds(library: Library, files: TokenizerFiles): Pick<Tokenizer, 'endIds' | 'beginId' | 'prefixId'> {
  const { beginToken, endToken, beginId, endIds } = files
  const begin = (beginToken === undefined ? undefined : library.token_to_id(beginToken)) ?? beginId
  const end = endToken === undefined ? undefined : library.token_to_id(endToken)
  const ends = [...new Set(end === undefined ? endIds : [end, ...endIds])]
  if (begin === undefined) return { endIds: ends }
  return { endIds: ends, beginId: begin, ...(beginsTexts(files) ? { prefixId: begin } : {}) }
}

/**
 * Returns a function that counts the UTF-8 bytes of text that a token covers. Special tokens cover none. In byte-level vocabularies each
 * character of a token is a byte; in SentencePiece's, ▁ is a space and `<0x41>` one byte. The bytes are those of the text after the
 * tokenizer's normalizer.
 */
export function byteCounter(tokenizer: JsonObject, tokenOf: (id: number) => string | undefined): (id: number) => number {
  const added = new Map(addedTokens(tokenizer).map(({ id, content, special }) => [id, special ? 0 : Buffer.byteLength(content)]))
  const kinds = [...kindsOf(tokenizer.decoder), ...kindsOf(tokenizer.pre_tokenizer)]
  const count = kinds.includes('ByteLevel') ? (token: string) => [...token].length : kinds.includes('WordPiece') ? wordPiece : sentencePiece
  const known = new Map(added)
  return (id) => {
    const bytes = known.get(id) ?? count(tokenOf(id) ?? '')
    known.set(id, bytes)
    return bytes
  }
}

const sentencePiece = (token: string): number => (/^<0x[\da-f]{2}>$/i.test(token) ? 1 : Buffer.byteLength(token.replaceAll('▁', ' ')))

/** A word that is not continued stands after a space. */
const wordPiece = (token: string): number => (token.startsWith('##') ? Buffer.byteLength(token) - 2 : Buffer.byteLength(token) + 1)

interface Added {
  id: number
  content: string
  special: boolean
}

function addedTokens({ added_tokens: tokens = [] }: JsonObject): Added[] {
  if (!Array.isArray(tokens)) return []
  return tokens.flatMap(({ id, content, special }: Partial<Added>) =>
    typeof id === 'number' && typeof content === 'string' ? [{ id, content, special: special === true }] : [],
  )
}

/** The kinds of a decoder or splitter, with those of its steps. */
function kindsOf(part: unknown): string[] {
  if (!isObject(part)) return []
  const steps = [part.decoders, part.pretokenizers].flatMap((list) => (Array.isArray(list) ? list : []))
  return [String(part.type), ...steps.flatMap(kindsOf)]
}
