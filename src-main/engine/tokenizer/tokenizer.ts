import { stat } from 'node:fs/promises'
import { Tokenizer as Library } from '@huggingface/tokenizers'
import { EspalierError } from '#contract/errors.ts'
import { isObject, type JsonObject, reasonOf } from '#engine/checkpoint/json.ts'
import { allowFor, underLimits } from '#engine/limits/reading.ts'
import { type ChatMessage, type ChatOptions, ChatTemplate } from './chat-template.ts'
import { readGgufTokenizer } from './gguf-tokenizer.ts'
import { gpt2Pattern, gpt4oPattern, llama3Pattern, qwen2Pattern } from './patterns.ts'
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
  /** Returns the text of ids. Ids that the tokenizer does not know are skipped; a padded vocabulary has such ids. */
  decode(ids: readonly number[], options?: DecodeOptions): string
  /** Returns how many UTF-8 bytes of text an id covers (see `token-bytes.ts`). */
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
  const cut = findBorder(files.tokenizer)
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

/** Cuts a text into pieces that can be encoded one by one. */
type Cut = (text: string) => string[]

// Characters per piece: long enough that cutting costs little, and short enough that the library's queue of merges stays small.
const pieceLength = 300

/**
 * Returns a function that cuts text between words, such that the concatenated ids of the pieces are those of the whole text; undefined if
 * that is not certain. It is certain for the two kinds of byte-pair encoding that language models use. In SentencePiece's, a word begins
 * with ▁ and no token has ▁ after another character, so no merge crosses a border. In byte-level ones, the pattern always ends a match at
 * the border.
 */
export function findBorder(tokenizer: JsonObject): Cut | undefined {
  const model = tokenizer.model
  if (!isObject(model) || !isPlainPairEncoding(model) || !addedTokensStandApart(tokenizer)) return undefined
  // The space at the border is left out of both pieces, because SentencePiece's normalizer puts a ▁ before each piece.
  if (isSentencePiece(tokenizer, model)) return (text) => cutAt(text, 1)
  if (isByteLevel(tokenizer, model)) return (text) => cutAt(text, 0)
  return undefined
}

function cutAt(text: string, spacesLeftOut: number): string[] {
  const pieces: string[] = []
  const border = /[A-Za-z] (?=[A-Za-z])/g
  let first = 0
  while (text.length - first > pieceLength) {
    border.lastIndex = first + pieceLength
    const found = border.exec(text)
    if (!found) break
    pieces.push(text.slice(first, found.index + 1))
    first = found.index + 1 + spacesLeftOut
  }
  pieces.push(text.slice(first))
  return pieces
}

function isPlainPairEncoding(model: JsonObject): boolean {
  const absent = [model.dropout, model.continuing_subword_prefix, model.continuing_subword_suffix, model.end_of_word_suffix]
  return model.type === 'BPE' && absent.every((value) => value === undefined || value === null || value === '')
}

/** Whether no added token can begin or end at a space between two letters, or contain that space. */
function addedTokensStandApart({ added_tokens: tokens = [] }: JsonObject): boolean {
  if (!Array.isArray(tokens)) return false
  return tokens.every(({ content, single_word: alone }) => {
    return typeof content === 'string' && alone !== true && !/[\s▁]/.test(content) && !/^[A-Za-z]|[A-Za-z]$/.test(content)
  })
}

function isSentencePiece({ normalizer, pre_tokenizer: splitter }: JsonObject, model: JsonObject): boolean {
  if (splitter != null || model.ignore_merges === true || !isObject(normalizer) || normalizer.type !== 'Sequence') return false
  const [prepend, replace, ...others] = normalizer.normalizers as unknown[]
  const prepends = isObject(prepend) && prepend.type === 'Prepend' && prepend.prepend === '▁'
  const replaces =
    isObject(replace) &&
    replace.type === 'Replace' &&
    replace.content === '▁' &&
    isObject(replace.pattern) &&
    replace.pattern.String === ' '
  if (!prepends || !replaces || others.length > 0 || !isObject(model.vocab)) return false
  return Object.hasOwn(model.vocab, '▁') && Object.keys(model.vocab).every((token) => !/[^▁]▁/u.test(token))
}

const knownPatterns = new Set([gpt2Pattern, gpt4oPattern, llama3Pattern, qwen2Pattern])

function isByteLevel({ normalizer, pre_tokenizer: splitter }: JsonObject, model: JsonObject): boolean {
  if (normalizer != null && !(isObject(normalizer) && normalizer.type === 'NFC')) return false
  if (model.fuse_unk === true && model.unk_token != null) return false
  if (!isObject(splitter)) return false
  const steps = splitter.type === 'Sequence' ? (splitter.pretokenizers as unknown[]) : [splitter]
  return steps.some(endsMatchBetweenWords) && steps.every((step) => endsMatchBetweenWords(step) || isHarmless(step))
}

function endsMatchBetweenWords(step: unknown): boolean {
  if (!isObject(step)) return false
  if (step.type === 'ByteLevel') return step.use_regex !== false
  const pattern = isObject(step.pattern) ? step.pattern.Regex : undefined
  return step.type === 'Split' && step.behavior === 'Isolated' && step.invert !== true && knownPatterns.has(String(pattern))
}

function isHarmless(step: unknown): boolean {
  return isObject(step) && (step.type === 'Digits' || (step.type === 'ByteLevel' && step.add_prefix_space !== true))
}
