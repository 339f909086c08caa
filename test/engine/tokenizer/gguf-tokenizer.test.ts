import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { type Entry, integers, makeGguf, text, texts, u32 } from '../checkpoint/gguf/make-gguf.ts'
import { makeByteLevel, writeTokenizer } from './make-tokenizer.ts'

const place = scratchFolder('gguf-tokenizer')

const merges = ['Ġ t', 'Ġt h', 'Ġth e', 'i n', '1 2', '12 3', '4 5']
const { model } = makeByteLevel(merges) as { model: { vocab: Record<string, number> } }
const tokens = Object.entries(model.vocab)
  .sort(([, a], [, b]) => a - b)
  .map(([token]) => token)

const metadata: Record<string, Entry> = {
  'general.architecture': text('llama'),
  'tokenizer.ggml.model': text('gpt2'),
  'tokenizer.ggml.pre': text('gpt-2'),
  'tokenizer.ggml.tokens': texts(tokens),
  'tokenizer.ggml.token_type': integers(tokens.map((_, id) => (id === 0 ? 3 : 1))),
  'tokenizer.ggml.merges': texts(merges),
  'tokenizer.ggml.bos_token_id': u32(0),
  'tokenizer.ggml.eos_token_id': u32(0),
  'tokenizer.ggml.eot_token_id': u32(5),
  'tokenizer.chat_template': text('{{ bos_token }}{{ messages[0].content }}'),
}

async function write(name: string, more: Record<string, Entry> = {}): Promise<string> {
  await mkdir(join(place, name), { recursive: true })
  const file = join(place, name, 'model.gguf')
  await writeFile(file, makeGguf({ metadata: { ...metadata, ...more }, tensors: [] }))
  return file
}

describe('the tokenizer of a GGUF file', () => {
  it('gives the same ids as the tokenizer.json it was made from', async () => {
    const folder = await writeTokenizer(join(place, 'folder'), { 'tokenizer.json': makeByteLevel(merges) })
    const [inside, beside] = [await openTokenizer(await write('same')), await openTokenizer(folder)]
    for (const sample of ['the thing in the 12345', ' naïve 日本 😀\n\n  x', 'end<|end|> the']) {
      expect(inside.encode(sample)).toEqual(beside.encode(sample))
      expect(inside.decode(inside.encode(sample))).toBe(sample)
    }
    expect(inside).toMatchObject({ size: tokens.length, beginId: 0, endIds: [0, 5] })
    expect(inside.chat([{ role: 'user', content: 'Hi' }])).toBe('<|end|>Hi')
  })

  it('begins texts as the file says, otherwise as llama.cpp does for its kind', async () => {
    const prefixOf = async (name: string, more: Record<string, Entry>) => (await openTokenizer(await write(name, more))).prefixId
    const llama3 = { 'tokenizer.ggml.pre': text('llama-bpe') }
    expect(await prefixOf('silent', {})).toBeUndefined()
    expect(await prefixOf('begun', { 'tokenizer.ggml.add_bos_token': [7, 1] })).toBe(0)
    expect(await prefixOf('llama3', llama3)).toBe(0)
    expect(await prefixOf('bare', { ...llama3, 'tokenizer.ggml.add_bos_token': [7, 0] })).toBeUndefined()
  })

  it('splits digits as its pattern says', async () => {
    const count = async (pattern: string) =>
      (await openTokenizer(await write(pattern, { 'tokenizer.ggml.pre': text(pattern) }))).encode('12345').length
    expect([await count('gpt-2'), await count('llama-bpe'), await count('qwen2'), await count('smollm')]).toEqual([2, 2, 5, 5])
  })

  it("must be given for an unknown pattern or kind, or is read from the file's folder", async () => {
    await expect(openTokenizer(await write('unknown', { 'tokenizer.ggml.pre': text('tekken') }))).rejects.toThrow(
      /kind gpt2 \(tekken\).*Place the model's tokenizer.json/,
    )
    const file = await write('sentencepiece', { 'tokenizer.ggml.model': text('t5') })
    await expect(openTokenizer(file)).rejects.toThrow(/kind t5/)
    await copyFile(join(import.meta.dirname, '../../fixtures/stories260k/tokenizer.json'), join(place, 'sentencepiece', 'tokenizer.json'))
    expect((await openTokenizer(file)).size).toBe(512)
  })

  it('of SentencePiece pieces and scores gives the ids and texts of the tokenizer.json they belong to', async () => {
    const folder = join(import.meta.dirname, '../../fixtures/stories260k')
    const { model } = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8')) as { model: { vocab: Record<string, number> } }
    const pieces = Object.entries(model.vocab)
      .sort(([, a], [, b]) => a - b)
      .map(([piece]) => piece)
    const file = await write('pieces', {
      'tokenizer.ggml.model': text('llama'),
      'tokenizer.ggml.tokens': texts(pieces),
      'tokenizer.ggml.scores': [9, [6, pieces.map((_, id) => 259 - id)]],
      'tokenizer.ggml.token_type': integers(pieces.map((piece, id) => (id === 0 ? 2 : id < 3 ? 3 : /^<0x..>$/.test(piece) ? 6 : 1))),
    })
    const [inside, beside] = [await openTokenizer(file), await openTokenizer(folder)]
    for (const sample of ['Once upon a time, there was a girl.', '  two  spaces\n\tand 1,234 digits', 'naïve 日本 😀 Привет العربية']) {
      expect(inside.encode(sample)).toEqual(beside.encode(sample))
      expect(inside.decode(inside.encode(sample))).toBe(sample)
    }
  })

  it('of Gemma puts no space before a text', async () => {
    const pieces = ['<unk>', '<0x41>', '▁', 'a', 'b', '▁a', 'ab', '▁▁']
    const file = await write('gemma', {
      'tokenizer.ggml.model': text('llama'),
      'tokenizer.ggml.tokens': texts(pieces),
      'tokenizer.ggml.scores': [9, [6, pieces.map((_, id) => -id)]],
      'tokenizer.ggml.token_type': integers(pieces.map((_, id) => (id === 0 ? 2 : id === 1 ? 6 : 1))),
      'tokenizer.ggml.add_space_prefix': [7, 0],
    })
    const tokenizer = await openTokenizer(file)
    expect(tokenizer.encode('ab  aA')).toEqual([6, 2, 5, 1])
    expect(tokenizer.decode([6, 2, 5, 1])).toBe('ab  aA')
  })

  it('that lacks its lists is one error', async () => {
    await expect(openTokenizer(await write('lists', { 'tokenizer.ggml.merges': u32(3) }))).rejects.toThrow(
      /lacks the list tokenizer.ggml.merges/,
    )
  })
})
