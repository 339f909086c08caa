import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { TextStream } from '#engine/tokenizer/text-stream.ts'
import { openTokenizer, type Tokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { makeByteLevel, writeTokenizer } from './make-tokenizer.ts'

const place = scratchFolder('text-stream')
const tokenizers: Record<string, Tokenizer> = {}
beforeAll(async () => {
  tokenizers.SentencePiece = await openTokenizer(join(import.meta.dirname, '../../fixtures/stories260k'))
  // Merges that end inside a character, as those of large vocabularies do.
  const merges = ['Ġ ð', 'ð Ł', 'Ġð Ł', 'ĺ Ģ', 'Ģ ð']
  tokenizers['byte-level'] = await openTokenizer(await writeTokenizer(place, { 'tokenizer.json': makeByteLevel(merges) }))
})

const texts = ['Once upon a time, there was a cat.', 'naïve café — “quoted”', '😀😀 😀 日本語 😀', ' two  spaces\n\nlines ', 'ends in part']

describe('TextStream', () => {
  for (const name of ['SentencePiece', 'byte-level']) {
    it(`gives the text of all ids, piece by piece, without broken characters: ${name}`, () => {
      const tokenizer = tokenizers[name] as Tokenizer
      for (const text of texts) {
        const ids = tokenizer.encode(text)
        const stream = new TextStream(tokenizer)
        const parts = ids.map((id) => stream.push(id))
        expect(parts.join('')).not.toContain('\uFFFD')
        expect(parts.join('') + stream.finish()).toBe(text)
      }
    })

    it(`gives each character as soon as it is whole: ${name}`, () => {
      const tokenizer = tokenizers[name] as Tokenizer
      const stream = new TextStream(tokenizer)
      const given = tokenizer.encode('a😀b').map((id) => stream.push(id))
      expect(given.filter((part) => part !== '')).toEqual(['a', '😀', 'b'])
    })

    it(`ends with a replacement for a character that was never finished: ${name}`, () => {
      const tokenizer = tokenizers[name] as Tokenizer
      const stream = new TextStream(tokenizer)
      const ids = tokenizer.encode('a😀').slice(0, -1)
      expect(ids.map((id) => stream.push(id)).join('')).toBe('a')
      expect(stream.finish()).toMatch(/^\uFFFD+$/)
      expect(stream.finish()).toBe('')
    })
  }

  it('keeps the space before the first word after a prompt', () => {
    const tokenizer = tokenizers.SentencePiece as Tokenizer
    const ids = tokenizer.encode('Once upon a time')
    const stream = new TextStream(tokenizer, { context: ids.slice(0, -1) })
    expect(stream.push(ids.at(-1) as number)).toMatch(/^ /)
  })

  it('leaves special tokens out unless asked for them', () => {
    const tokenizer = tokenizers.SentencePiece as Tokenizer
    expect(new TextStream(tokenizer).push(2)).toBe('')
    expect(new TextStream(tokenizer, { skipSpecial: false }).push(2)).toBe('</s>')
  })
})
