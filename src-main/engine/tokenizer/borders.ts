import { isObject, type JsonObject } from '#engine/checkpoint/json.ts'
import { gpt2Pattern, gpt4oPattern, llama3Pattern, qwen2Pattern } from './patterns.ts'

/** Cuts a text into parts that can be encoded one by one. */
type Cut = (text: string) => string[]

// Characters per piece: long enough that cutting costs little, and short enough that the library's queue of merges stays small.
const pieceLength = 300

/**
 * Returns a function that cuts text between words, such that the concatenated ids of the pieces are those of the whole text; undefined if
 * that is not certain. It is certain for the kinds of byte-pair encoding that language models use. In SentencePiece's, a word begins with ▁
 * and no token has ▁ after another character, so no merge crosses a border; without a ▁ in front of the text, a border is wherever no token
 * holds the two characters side by side. In byte-level ones, the pattern always ends a match at the border.
 */
export function findBorder(tokenizer: JsonObject): Cut | undefined {
  const apart = findApart(tokenizer)
  if (apart) return (text) => cutApart(text, apart, pieceLength)
  const model = tokenizer.model
  if (!isObject(model) || !isPlainPairEncoding(model) || !addedTokensStandApart(tokenizer)) return undefined
  // The space at the border is left out of both pieces, because SentencePiece's normalizer puts a ▁ before each piece.
  if (isSentencePiece(tokenizer, model)) return (text) => cutAt(text, betweenLetters, 1, pieceLength)
  if (isByteLevel(tokenizer, model))
    return (text) => cutAt(text, beginsTexts(tokenizer) ? betweenLetters : betweenLettersOrLines, 0, pieceLength)
  return undefined
}

/** Returns a function that cuts a piece of text at every border that is certain; undefined if there is none besides those of `findBorder`. */
export function findWords(tokenizer: JsonObject): Cut | undefined {
  const apart = findApart(tokenizer)
  if (apart) return (text) => cutApart(text, apart, 0)
  const model = tokenizer.model
  if (!isObject(model) || !isPlainPairEncoding(model) || !addedTokensStandApart(tokenizer)) return undefined
  if (isSentencePiece(tokenizer, model)) return (text) => cutAt(text, betweenLetters, 1, 0)
  return isByteLevel(tokenizer, model) && !beginsTexts(tokenizer) ? wordsByPattern(tokenizer) : undefined
}

const betweenLetters = /[A-Za-z] (?=[A-Za-z])/g
/** The end of a line and a letter are never in one match either. GPT-2's pattern sees where text ends, so it needs a single end of a line. */
const betweenLettersOrLines = /[A-Za-z] (?=[A-Za-z])|(?<=\S)\n(?=[A-Za-z\p{Lo}])/gu

function cutAt(text: string, border: RegExp, spacesLeftOut: number, length: number): string[] {
  const pieces: string[] = []
  let first = 0
  while (text.length - first > length) {
    border.lastIndex = first + length
    const found = border.exec(text)
    if (!found) break
    const end = border.lastIndex
    const isSpace = spacesLeftOut > 0 || text[end - 1] === ' '
    pieces.push(text.slice(first, isSpace ? end - 1 : end))
    first = isSpace && spacesLeftOut === 0 ? end - 1 : end
  }
  pieces.push(text.slice(first))
  return pieces
}

/** Whether two neighbouring characters, as UTF-16 units, are never part of one token. */
type Apart = (left: number, right: number) => boolean

function cutApart(text: string, apart: Apart, length: number): string[] {
  const pieces: string[] = []
  let first = 0
  for (let place = 1; place < text.length; place++) {
    if (place - first < length || !apart(text.charCodeAt(place - 1), text.charCodeAt(place))) continue
    pieces.push(text.slice(first, place))
    first = place
  }
  pieces.push(text.slice(first))
  return pieces
}

/** For a vocabulary of merges whose text is not split into words and has nothing put in front of it, as Gemma's. */
function findApart(tokenizer: JsonObject): Apart | undefined {
  const { model, added_tokens: added = [] } = tokenizer
  if (!isObject(model) || !isPlainPairEncoding(model) || !isObject(model.vocab) || !Array.isArray(added)) return undefined
  if (!onlyReplacesSpaces(tokenizer) || added.some(({ lstrip, rstrip }) => lstrip === true || rstrip === true)) return undefined
  const tokens = [...Object.keys(model.vocab), ...added.map(({ content }) => String(content))]
  let pairs: Set<number> | undefined
  return (left, right) => {
    // The parts of a surrogate pair are one character.
    if (right >= 0xdc00 && right <= 0xdfff) return false
    pairs ??= pairsIn(tokens)
    return !pairs.has(pairOf(left, right))
  }
}

function pairsIn(tokens: readonly string[]): Set<number> {
  const pairs = new Set<number>()
  for (const token of tokens)
    for (let place = 1; place < token.length; place++) pairs.add(pairOf(token.charCodeAt(place - 1), token.charCodeAt(place)))
  return pairs
}

const [space, mark] = [0x20, 0x2581]
const pairOf = (left: number, right: number): number => asMark(left) * 0x10000 + asMark(right)
const asMark = (unit: number): number => (unit === space ? mark : unit)

/** Whether the only thing done to text before merges is that ▁ replaces spaces. What then splits it at spaces has nothing to do. */
function onlyReplacesSpaces({ normalizer, pre_tokenizer: splitter }: JsonObject): boolean {
  const steps = isObject(normalizer) && normalizer.type === 'Sequence' ? (normalizer.normalizers as unknown[]) : [normalizer]
  const splitsNothing =
    splitter == null || (isObject(splitter) && splitter.type === 'Split' && isObject(splitter.pattern) && splitter.pattern.String === ' ')
  return splitsNothing && steps.length === 1 && replacesSpaces(steps[0])
}

const replacesSpaces = (step: unknown): boolean =>
  isObject(step) && step.type === 'Replace' && step.content === '▁' && isObject(step.pattern) && step.pattern.String === ' '

function isPlainPairEncoding(model: JsonObject): boolean {
  const absent = [model.dropout, model.continuing_subword_prefix, model.continuing_subword_suffix, model.end_of_word_suffix]
  return model.type === 'BPE' && absent.every((value) => value === undefined || value === null || value === '')
}

/** Whether no added token can begin or end at a space or an end of a line between two letters, or contain it. */
function addedTokensStandApart({ added_tokens: tokens = [] }: JsonObject): boolean {
  if (!Array.isArray(tokens)) return false
  return tokens.every(({ content, single_word: alone }) => {
    return typeof content === 'string' && alone !== true && !/[\s▁]/.test(content) && !/^[A-Za-z\p{Lo}]|[A-Za-z]$/u.test(content)
  })
}

function isSentencePiece({ normalizer, pre_tokenizer: splitter }: JsonObject, model: JsonObject): boolean {
  if (splitter != null || model.ignore_merges === true || !isObject(normalizer) || normalizer.type !== 'Sequence') return false
  const [prepend, replace, ...others] = normalizer.normalizers as unknown[]
  const prepends = isObject(prepend) && prepend.type === 'Prepend' && prepend.prepend === '▁'
  if (!prepends || !replacesSpaces(replace) || others.length > 0 || !isObject(model.vocab)) return false
  return Object.hasOwn(model.vocab, '▁') && Object.keys(model.vocab).every((token) => !/[^▁]▁/u.test(token))
}

const knownPatterns = new Set([gpt2Pattern, gpt4oPattern, llama3Pattern, qwen2Pattern])

function isByteLevel({ normalizer, pre_tokenizer: splitter }: JsonObject, model: JsonObject): boolean {
  if (normalizer != null && !(isObject(normalizer) && normalizer.type === 'NFC')) return false
  if (model.fuse_unk === true && model.unk_token != null) return false
  const steps = stepsOf(splitter)
  return steps.some(endsMatchBetweenWords) && steps.every((step) => endsMatchBetweenWords(step) || isHarmless(step))
}

function stepsOf(splitter: unknown): unknown[] {
  if (!isObject(splitter)) return []
  return splitter.type === 'Sequence' ? (splitter.pretokenizers as unknown[]) : [splitter]
}

function endsMatchBetweenWords(step: unknown): boolean {
  return patternOf(step) !== undefined
}

/** The known pattern by which a step splits text, each match a word. */
function patternOf(step: unknown): string | undefined {
  if (!isObject(step)) return undefined
  if (step.type === 'ByteLevel') return step.use_regex === false ? undefined : gpt2Pattern
  const pattern = isObject(step.pattern) ? String(step.pattern.Regex) : ''
  return step.type === 'Split' && step.behavior === 'Isolated' && step.invert !== true && knownPatterns.has(pattern) ? pattern : undefined
}

function isHarmless(step: unknown): boolean {
  return isObject(step) && (step.type === 'Digits' || (step.type === 'ByteLevel' && step.add_prefix_space !== true))
}

/** Whether a byte-level tokenizer puts a space in front of a text. */
const beginsTexts = ({ pre_tokenizer: splitter }: JsonObject): boolean =>
  stepsOf(splitter).some((step) => isObject(step) && step.type === 'ByteLevel' && step.add_prefix_space === true)

/** The words of a byte-level tokenizer. A match of a known pattern is the only match of its own text. */
function wordsByPattern({ pre_tokenizer: splitter, normalizer, added_tokens: added = [] }: JsonObject): Cut {
  const patterns = stepsOf(splitter).flatMap((step) => {
    if (isObject(step) && step.type === 'Digits') return [step.individual_digits === true ? /[^\d]+|\d/gu : /[^\d]+|\d+/gu]
    const pattern = patternOf(step)
    return pattern === undefined ? [] : [new RegExp(pattern, 'gu')]
  })
  const contents = (added as { content: string }[]).map(({ content }) => RegExp.escape(content))
  const special = contents.length > 0 ? new RegExp(contents.join('|'), 'u') : undefined
  return (piece) => {
    // An added token is split off before the patterns see the text.
    if (special?.test(piece)) return [piece]
    const text = normalizer == null ? piece : piece.normalize('NFC')
    if (text !== piece && special?.test(text)) return [piece]
    return patterns.reduce((parts, pattern) => parts.flatMap((part) => part.match(pattern) ?? []), [text])
  }
}
