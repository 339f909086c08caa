import { isObject, type JsonObject } from '../checkpoint/json.ts'
import { gpt2Pattern, gpt4oPattern, llama3Pattern, qwen2Pattern } from './patterns.ts'

/** Cuts a text into pieces that can be encoded one by one. */
export type Cut = (text: string) => string[]

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
