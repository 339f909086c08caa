import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer as Library } from '@huggingface/tokenizers'
import { describe, expect, it } from 'vitest'
import { findBorder, findWords } from '#engine/tokenizer/borders.ts'
import { makeByteLevel } from './make-tokenizer.ts'

type Json = Record<string, unknown>

const fixtures = join(import.meta.dirname, '../../fixtures')
const sentencePiece = JSON.parse(await readFile(join(fixtures, 'stories260k/tokenizer.json'), 'utf8')) as Json
const prose = await readFile(join(fixtures, 'texts/wikitext-2-test.txt'), 'utf8')

const merges = ['Ġ t', 'Ġt h', 'Ġth e', 'h e', 'd Ġ', 'i n', 'Ġ a', 'Ċ Ċ', 'Ġ Ġ', 'ĠĠ ĠĠ', 'e r', 'o n', "' s", 'Ã ©']
const llamaPattern = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
const split = { type: 'Split', pattern: { Regex: llamaPattern }, behavior: 'Isolated', invert: false }
const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false }

const { normalizers } = sentencePiece.normalizer as { normalizers: object[] }
const digits = {
  type: 'Sequence',
  pretokenizers: [
    { type: 'Digits', individual_digits: true },
    { ...bytes, use_regex: true },
  ],
}

const kinds: Record<string, Json> = {
  SentencePiece: sentencePiece,
  'SentencePiece without a space in front': {
    ...sentencePiece,
    normalizer: { type: 'Sequence', normalizers: normalizers.slice(1) },
    added_tokens: [...(sentencePiece.added_tokens as object[]), ...['\n\n', '  ', '▁▁▁'].map((content, at) => ({ id: 512 + at, content }))],
  },
  'byte-level': makeByteLevel(merges),
  'byte-level with a space in front': makeByteLevel(merges, {
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true, use_regex: true },
  }),
  'byte-level with the pattern of Llama 3': makeByteLevel(merges, { pre_tokenizer: { type: 'Sequence', pretokenizers: [split, bytes] } }),
  'byte-level, normalized': makeByteLevel(merges, { normalizer: { type: 'NFC' } }),
  'byte-level with single digits': makeByteLevel(merges, { pre_tokenizer: digits }),
}

/** Text that contains everything that can go wrong at a border, the same in every run. */
function makeNasty(length: number): string {
  const parts = [
    ...'aé ñ\n\r\t.,"!09日😀▁\u0301\u200d',
    ' ',
    ' the',
    " it's",
    '  in ',
    '<s>',
    ' </s> ',
    '<|end|>',
    'word ',
    '\n\n',
    ' A B',
    'Isn’t ',
    ' x y',
  ]
  let state = 7
  return Array.from({ length }, () => {
    state = (state * 48271) % 2147483647
    return parts[state % parts.length]
  }).join('')
}

function encode(library: Library, text: string): number[] {
  return library.encode(text, { add_special_tokens: false }).ids
}

const complete = { added_tokens: [], decoder: null, post_processor: null, pre_tokenizer: null, normalizer: null }

describe('a text cut into pieces', () => {
  for (const [name, tokenizer] of Object.entries(kinds)) {
    it(`gives the ids of the whole: ${name}`, () => {
      const library = new Library({ ...complete, ...tokenizer }, {})
      const cut = findBorder(tokenizer)
      for (const text of [prose, makeNasty(8000), `${makeNasty(500)} end`, ' a b', '', 'x']) {
        const pieces = cut?.(text) ?? []
        expect(pieces.flatMap((piece) => encode(library, piece))).toEqual(encode(library, text))
        if (text.length > 2000) expect(pieces.length).toBeGreaterThan(text.length / 1000)
      }
    })

    it(`gives the ids of the whole word by word: ${name}`, () => {
      const library = new Library({ ...complete, ...tokenizer }, {})
      const [cut, words] = [findBorder(tokenizer), findWords(tokenizer)]
      for (const text of [prose, makeNasty(8000), `${makeNasty(500)} end`, 'a\n\n b  1 \n\nc', '']) {
        const found = (cut?.(text) ?? []).flatMap((piece) => words?.(piece) ?? [piece])
        expect(found.flatMap((word) => encode(library, word))).toEqual(encode(library, text))
        if (words && text === prose) expect(found.length).toBeGreaterThan(text.length / 10)
      }
      expect(words === undefined).toBe(name === 'byte-level with a space in front')
    })

    it(`keeps its pieces but the last when more text follows: ${name}`, () => {
      const cut = findBorder(tokenizer)
      const pieces = cut?.(prose) ?? []
      const more = cut?.(`${prose.slice(0, 4000)}`) ?? []
      expect(pieces.slice(0, more.length - 1)).toEqual(more.slice(0, -1))
    })
  }
})

describe('a tokenizer whose borders are not certain', () => {
  const model = sentencePiece.model as Json & { vocab: Record<string, number> }
  const cases: Record<string, Json> = {
    'a token that reaches over a border': { ...sentencePiece, model: { ...model, vocab: { ...model.vocab, 'n▁a': 511 } } },
    'an added token of letters': { ...sentencePiece, added_tokens: [{ id: 3, content: 'Lily' }] },
    'an added token with a space': { ...sentencePiece, added_tokens: [{ id: 3, content: '<a b>' }] },
    'another normalizer': { ...sentencePiece, normalizer: { type: 'Lowercase' } },
    'an unknown pattern': makeByteLevel(merges, {
      pre_tokenizer: { type: 'Sequence', pretokenizers: [{ ...split, pattern: { Regex: String.raw`\w+ \w+|.` } }, bytes] },
    }),
    'bytes without any pattern': makeByteLevel(merges, { pre_tokenizer: bytes }),
    'another kind of model': { model: { type: 'Unigram', vocab: [['a', 0]], unk_id: 0 } },
  }
  for (const [name, tokenizer] of Object.entries(cases)) {
    it(`is never cut: ${name}`, () => expect([findBorder(tokenizer), findWords(tokenizer)]).toEqual([undefined, undefined]))
  }
})
