import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { JsonObject } from '#engine/checkpoint/json.ts'
import { regularPause } from '#engine/model/walk.ts'
import { chooseTokens, type KeptRequest } from '#engine/tokenizer/kept-tokens.ts'
import { MergeTree } from '#engine/tokenizer/merge-tree.ts'
import { TrimmedTokenizer } from '#engine/tokenizer/reread-windows.ts'
import { openTokenizerFiles, tokenizerOf } from '#engine/tokenizer/tokenizer.ts'
import type { TokenizerFiles } from '#engine/tokenizer/tokenizer-files.ts'
import { idsNamedBy, renumbered, renumberIds, tokensById, trimTokenizer } from '#engine/tokenizer/trim-tokenizer.ts'
import { makeByteLevel } from './make-tokenizer.ts'

const root = join(import.meta.dirname, '../../..')
const prose = await readFile(join(root, 'test/fixtures/texts/wikitext-2-test.txt'), 'utf8')
const stories = await openTokenizerFiles(join(root, 'test/fixtures/stories260k'))
const sample = await openTokenizerFiles(join(root, 'resources/sample-model'))

const filesOf = (tokenizer: JsonObject, more: Partial<TokenizerFiles> = {}): TokenizerFiles => ({
  where: 'test',
  tokenizer,
  settings: {},
  endIds: [],
  ...more,
})

/** SmolLM's and Llama 3's ways of splitting on the merges of the sample model. */
const withSplit = (pre_tokenizer: unknown, model: object = {}): JsonObject => ({
  ...sample.tokenizer,
  pre_tokenizer,
  model: { ...(sample.tokenizer.model as object), ...model },
})
const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false }
const llama3 = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

/** The pieces of SentencePiece's vocabulary as a Unigram model, the longer the likelier. */
const unigram: JsonObject = {
  ...stories.tokenizer,
  model: {
    type: 'Unigram',
    unk_id: 0,
    byte_fallback: true,
    vocab: [...tokensById(stories.tokenizer)].sort(([a], [b]) => a - b).map(([, token]) => [token, -10 / [...token].length]),
  },
}
const letters = [...'abcdefghijklmnopqrstuvwxyz.,']
const words = ['the', 'and', 'of', 'game', 'film', 'season', 'was', 'in', 'to', 'for', 'with', 'as', 'on', 'by']
const wordPiece: JsonObject = {
  added_tokens: [{ id: 0, content: '[UNK]', special: true }],
  normalizer: { type: 'BertNormalizer', lowercase: true, clean_text: true, handle_chinese_chars: true, strip_accents: null },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(
      ['[UNK]', ...letters, ...letters.map((letter) => `##${letter}`), ...words, '##ing', '##ed', '##er', '##s'].map((token, id) => [
        token,
        id,
      ]),
    ),
  },
}

const kinds: Record<string, TokenizerFiles> = {
  'SentencePiece with merges': stories,
  'byte-level': sample,
  'byte-level with single digits': filesOf(
    withSplit({
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { ...bytes, use_regex: true },
      ],
    }),
  ),
  'byte-level with whole words looked up': filesOf(
    withSplit(
      { type: 'Sequence', pretokenizers: [{ type: 'Split', pattern: { Regex: llama3 }, behavior: 'Isolated', invert: false }, bytes] },
      { ignore_merges: true },
    ),
  ),
  Unigram: filesOf(unigram),
  WordPiece: filesOf(wordPiece),
}

function choose(
  files: TokenizerFiles,
  text: string,
  asked: Partial<KeptRequest>,
  rows?: number,
  named: number[] = [],
  signal?: AbortSignal,
) {
  const whole = tokenizerOf(files)
  const counts = new Float64Array(rows ?? whole.size)
  for (const id of whole.encode(text)) counts[id] = (counts[id] ?? 0) + 1
  return chooseTokens(
    files,
    whole,
    counts,
    { target: { coverage: 1 }, prior: 0, scripts: [], ...asked },
    { rows: rows ?? whole.size, named },
    regularPause(signal),
  )
}

/** Texts of every length from two sources and of random characters, the same in every run. */
function textsOf(): string[] {
  let state = 11
  const next = (below: number) => {
    state = (state * 48271) % 2147483647
    return state % below
  }
  const nasty = [
    ...'aé ñ\n\r\t.,"!09日😀▁\u0301\u200d',
    ' the',
    " it's",
    '  in ',
    '<s>',
    '<|endoftext|>',
    'word ',
    '\n\n',
    'Isn’t ',
    '<0x41>',
  ]
  const cut = Array.from({ length: 400 }, () => {
    const from = next(prose.length - 200)
    return prose.slice(from, from + 1 + next(60))
  })
  const made = Array.from({ length: 200 }, () => Array.from({ length: 1 + next(12) }, () => nasty[next(nasty.length)]).join(''))
  return [...cut, ...made, '', ' ']
}

describe.each(Object.entries(kinds))('%s', async (_, files) => {
  const whole = tokenizerOf(files)
  const { kept } = await choose(files, prose.slice(0, 4000), { target: { coverage: 0.9 } })
  const trimmed = new TrimmedTokenizer(whole, files, kept)
  const isKept = new Set(kept)

  it('gives equal ids for text that the kept tokens cover', () => {
    let covered = 0
    for (const text of textsOf()) {
      const ids = whole.encode(text)
      if (!ids.every((id) => isKept.has(id))) continue
      covered++
      expect(trimmed.tokenizer.encode(text).map((id) => kept[id])).toEqual(ids)
    }
    expect(kept.length).toBeLessThan(whole.size)
    expect(covered).toBeGreaterThan(20)
    expect(covered).toBeLessThan(textsOf().length)
  })

  it('reads other text as more tokens of the same text', () => {
    for (const text of textsOf()) {
      const [ids, own] = [whole.encode(text), trimmed.tokenizer.encode(text)]
      if (_ !== 'WordPiece') expect(trimmed.tokenizer.decode(own)).toBe(whole.decode(ids))
      if (ids.every((id) => isKept.has(id))) continue
      expect(own.every((id) => id < kept.length)).toBe(true)
    }
  })

  it('reads windows again that begin and end anywhere, as the same text', () => {
    const ids = whole.encode(prose.slice(3000, 9000))
    for (let start = 0; start + 40 < ids.length; start += 37) {
      const window = Int32Array.from(ids.slice(start, start + 40))
      const own = trimmed.reread(window)
      const size = (some: ArrayLike<number>, by: (id: number) => number) => Array.from(some).reduce((sum, id) => sum + by(id), 0)
      if (_ !== 'WordPiece') expect(size(own, trimmed.tokenizer.bytesOf)).toBe(size(window, whole.bytesOf))
      if (window.every((id) => isKept.has(id))) expect([...own].map((id) => kept[id])).toEqual([...window])
    }
  })

  it('keeps every token if all are asked for', async () => {
    const all = await choose(files, prose, { target: { rows: tokensById(files.tokenizer).size } })
    expect(all.kept).toEqual([...tokensById(files.tokenizer).keys()].sort((a, b) => a - b))
  })
})

describe('the kept tokens', () => {
  const merges = ['t h', 'Ġ th', 'e r', 'Ġth er', 'Ġther e', 'a n', 'an d', 'Ġ and', 'a nd', 'n d']
  const files = filesOf(makeByteLevel(merges))
  const idOf = (token: string) => (files.tokenizer.model as { vocab: Record<string, number> }).vocab[token] as number

  it('are closed under the merges that build them, without which a counted token could never be reached', async () => {
    const { kept } = await choose(files, ' there there', {})
    const own = ['th', 'Ġth', 'er', 'Ġther', 'Ġthere'].map(idOf)
    expect(kept.filter((id) => id > 256)).toEqual(own.sort((a, b) => a - b))
    const trimmed = new TrimmedTokenizer(tokenizerOf(files), files, kept)
    expect(trimmed.tokenizer.encode(' there')).toEqual([kept.indexOf(idOf('Ġthere'))])
  })

  it('follow the merge that BPE itself uses where several make one token', async () => {
    const tree = new MergeTree(merges.map((merge) => merge.split(' ') as [string, string]))
    expect(tree.partsOf('and').sort()).toEqual(['a', 'an', 'and', 'd', 'n'])
    const { kept } = await choose(files, ' and', {})
    expect(kept).toContain(idOf('an'))
    expect(kept).not.toContain(idOf('nd'))
  })

  it('are taken in the order of merges where the text says nothing, unless only counts are asked for', async () => {
    const rows = 1 + 256 + 2
    expect((await choose(files, 'x', { target: { rows }, prior: 1000 })).kept.slice(-2)).toEqual([idOf('th'), idOf('Ġth')])
    expect((await choose(files, 'and and', { target: { rows } })).kept.slice(-2)).toEqual([idOf('an'), idOf('and')])
  })

  it('hold bytes, special and template tokens, ids of the config and single characters below U+3000 whatever the text says', async () => {
    const added = [
      { id: 267, content: '<tool>', special: false },
      { id: 268, content: '<unused1>', special: false },
      { id: 269, content: '\n\n', special: false },
      { id: 270, content: '<reserved_2>', special: true },
      { id: 271, content: '<|end|>', special: true },
    ]
    const base = makeByteLevel(['Ã ©', 'æ Ĺ', 'æĹ ¥', 'o n', 'Ġ on'], { added_tokens: added })
    const chat = filesOf(base, { chatTemplate: '<tool>{{ messages }} on' })
    const found = await choose(chat, 'x', {}, 272)
    const tokens = tokensById(base)
    expect(found.kept.length).toBe(found.always)
    expect(found.kept.filter((id) => id > 256).map((id) => tokens.get(id))).toEqual(['Ã©', 'on', 'Ġon', '<tool>', '<|end|>'])
    const han = await choose(chat, 'x', { scripts: ['Han'] }, 272)
    expect(han.kept.map((id) => tokens.get(id))).toContain('æĹ¥')
    await expect(choose(chat, '', { scripts: ['Klingon'] }, 272)).rejects.toThrow(/"Klingon" is not the Unicode name of a script/)
    expect((await choose(chat, 'x', {}, 272, [270, 300])).kept).toContain(270)
  })

  it('are refused with the number to choose if fewer rows are asked for than always stay, or more than there are', async () => {
    await expect(choose(files, 'x', { target: { rows: 100 } })).rejects.toThrow(
      /100 rows are fewer than the 257 that always stay.*at least 257/,
    )
    await expect(choose(files, 'x', { target: { rows: 5000 } }, 6000)).rejects.toThrow(/5,000 rows are more than the 26\d tokens/)
    await expect(choose(files, '', {})).rejects.toThrow(/The text has no tokens/)
  })

  it('leave out rows beyond the tokenizer', async () => {
    // Two merges make one token, so one id before the end has no token either.
    const tokens = tokensById(files.tokenizer)
    expect(tokens.size).toBe(tokenizerOf(files).size - 1)
    expect((await choose(files, ' there and', { target: { rows: tokens.size }, prior: 1 }, 512)).kept).toEqual(
      [...tokens.keys()].sort((a, b) => a - b),
    )
  })

  it('are no longer chosen once that is cancelled', async () => {
    const letters = [...'abcdefghijklmnopqrstuvwxyz']
    const pairs = letters.flatMap((first) => letters.map((second) => `${first} ${second}`))
    const longer = (shorter: string[]) => shorter.flatMap((merge) => letters.map((letter) => `${merge.replace(' ', '')} ${letter}`))
    const triples = longer(pairs)
    const large = filesOf(makeByteLevel([...pairs, ...triples, ...longer(triples).slice(0, 100_000)]))
    const cancelling = new AbortController()
    setImmediate(() => cancelling.abort())
    await expect(choose(large, 'x', { target: { rows: 300 } }, undefined, [], cancelling.signal)).rejects.toThrow(/abort/i)
  })

  it('are refused for merges that mark where words go on', async () => {
    const marked = { ...files.tokenizer, model: { ...(files.tokenizer.model as object), end_of_word_suffix: '</w>' } }
    await expect(choose(filesOf(marked), 'x', {})).rejects.toThrow(/marks where words continue or end/)
  })
})

describe('a trimmed tokenizer', () => {
  it('numbers added tokens in the middle of the vocabulary in their old order, and drops those that are gone', () => {
    const model = makeByteLevel(['t h', 'Ġ th'])
    const middle = {
      ...model,
      added_tokens: [
        { id: 0, content: '<|end|>', special: true },
        { id: 257, content: 'th', special: false },
      ],
    }
    const kept = [...Array(259).keys()].filter((id) => id !== 40)
    const own = trimTokenizer(filesOf(middle), kept)
    expect((own.tokenizer.added_tokens as { id: number }[]).map(({ id }) => id)).toEqual([0, 256])
    const without = trimTokenizer(
      filesOf(middle),
      kept.filter((id) => id !== 257),
    )
    expect((without.tokenizer.added_tokens as { id: number }[]).map(({ id }) => id)).toEqual([0])
    expect((without.tokenizer.model as { merges: unknown[] }).merges).toEqual([])
  })

  it('renumbers the ids in configs, templates and settings', () => {
    const ids = renumbered([0, 5, 7, 9])
    const config = {
      eos_token_id: [7, 8],
      bos_token_id: 5,
      pad_token_id: null,
      suppress_tokens: [9, 1],
      hidden_size: 7,
      vision: { image_token_id: 3 },
      bad_words_ids: [
        [5, 7],
        [5, 6],
      ],
      forced: -1,
    }
    expect(renumberIds(config, ids)).toEqual({
      eos_token_id: [2],
      bos_token_id: 1,
      pad_token_id: null,
      suppress_tokens: [3],
      hidden_size: 7,
      vision: { image_token_id: null },
      bad_words_ids: [[1, 2]],
      forced: -1,
    })
    expect(idsNamedBy(config)).toEqual([7, 8, 5, 3])
    const post_processor = { type: 'TemplateProcessing', special_tokens: { '<s>': { id: '<s>', ids: [5], tokens: ['<s>'] } } }
    const files = filesOf(
      { ...makeByteLevel([]), post_processor },
      { settings: { added_tokens_decoder: { 5: { content: 'a' }, 6: { content: 'b' } } }, endIds: [7, 8], beginId: 5 },
    )
    const own = trimTokenizer(files, [0, 5, 7, 9])
    expect(own.tokenizer.post_processor).toMatchObject({ special_tokens: { '<s>': { ids: [1] } } })
    expect(own.settings).toEqual({ added_tokens_decoder: { 1: { content: 'a' } } })
    expect([own.endIds, own.beginId]).toEqual([[2], 1])
  })
})
