import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { EspalierError } from '#contract/errors.ts'
import { byteCounter, checkVocabulary, openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { resources } from '#runtime/resources.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { makeByteLevel, writeTokenizer } from './make-tokenizer.ts'

const fixtures = join(import.meta.dirname, '../../fixtures')
const place = scratchFolder('tokenizer')

describe('the tokenizer of stories260K', () => {
  it('gives the reference ids of WikiText-2, without special tokens', async () => {
    const tokenizer = await openTokenizer(join(fixtures, 'stories260k'))
    for (const name of ['test', 'valid']) {
      const text = await readFile(join(fixtures, `texts/wikitext-2-${name}.txt`), 'utf8')
      const windows = JSON.parse(await readFile(join(fixtures, `texts/wikitext-2-${name}.windows.json`), 'utf8')) as number[][]
      expect(tokenizer.encode(text).slice(0, windows.flat().length)).toEqual(windows.flat())
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text)
    }
  })

  it('knows its size and its special ids', async () => {
    const tokenizer = await openTokenizer(join(fixtures, 'stories260k'))
    expect(tokenizer).toMatchObject({ size: 512, beginId: 1, prefixId: 1, endIds: [2] })
    expect(tokenizer.encode('')).toEqual([])
    expect(tokenizer.decode([])).toBe('')
    expect(tokenizer.decode([1, 410, 2], { skipSpecial: true })).not.toContain('s>')
    expect(tokenizer.chat([{ role: 'user', content: 'Hello' }])).toBeUndefined()
  })

  it('passes over ids that it does not know, as a padded vocabulary can give', async () => {
    const tokenizer = await openTokenizer(join(fixtures, 'stories260k'))
    expect(tokenizer.decode([...tokenizer.encode('a cat'), 99_999])).toBe('a cat')
    expect(tokenizer.decode([99_999])).toBe('')
  })
})

describe('special ids', () => {
  it('say whether the model begins texts with its begin token: by its settings, else by how it encodes', async () => {
    const single = [{ SpecialToken: { id: '<|end|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }]
    const processors = [{ type: 'ByteLevel' }, { type: 'TemplateProcessing', single }]
    const prefixOf = async (name: string, settings: object, more: Record<string, unknown> = {}) => {
      const files = { 'tokenizer.json': makeByteLevel([], more), 'tokenizer_config.json': { bos_token: '<|end|>', ...settings } }
      return (await openTokenizer(await writeTokenizer(join(place, name), files))).prefixId
    }
    const template = { post_processor: { type: 'Sequence', processors } }
    expect(await prefixOf('plain', {})).toBeUndefined()
    expect(await prefixOf('flag', { add_bos_token: true })).toBe(0)
    expect(await prefixOf('template', {}, template)).toBe(0)
    expect(await prefixOf('refused', { add_bos_token: false }, template)).toBeUndefined()
  })

  it('come from all the files that name them', async () => {
    const folder = await writeTokenizer(join(place, 'ids'), {
      'tokenizer.json': makeByteLevel([]),
      'tokenizer_config.json': { eos_token: { content: '<|end|>' } },
      'generation_config.json': { eos_token_id: [7, 0] },
      'config.json': { bos_token_id: 5, eos_token_id: 9 },
    })
    expect(await openTokenizer(folder)).toMatchObject({ endIds: [0, 7, 9], beginId: 5 })
  })
})

describe('a chat template', () => {
  const template = `{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}`
  const messages = [{ role: 'user', content: 'Hi' }]
  const base = { 'tokenizer.json': makeByteLevel([]), 'tokenizer_config.json': { eos_token: '<|end|>', chat_template: template } }

  it('makes the prompt, with and without the start of an answer', async () => {
    const tokenizer = await openTokenizer(await writeTokenizer(join(place, 'chat'), base))
    expect(tokenizer.chat(messages)).toBe('[user]Hi<|end|>[assistant]')
    expect(tokenizer.chat(messages, { addGenerationPrompt: false })).toBe('[user]Hi<|end|>')
    expect(tokenizer.encode('Hi<|end|>').at(-1)).toBe(0)
  })

  it('is taken from its own file or by name where there are several', async () => {
    const own = await writeTokenizer(join(place, 'own'), { ...base, 'chat_template.jinja': 'own' })
    expect((await openTokenizer(own)).chat(messages)).toBe('own')
    const several = [
      { name: 'tools', template: 'a' },
      { name: 'default', template: 'b' },
    ]
    const named = await writeTokenizer(join(place, 'named'), { ...base, 'tokenizer_config.json': { chat_template: several } })
    expect((await openTokenizer(named)).chat(messages)).toBe('b')
  })

  it('that refuses messages or cannot be read is one error', async () => {
    const refusing = `{{ raise_exception('System messages are not supported') }}`
    const folder = await writeTokenizer(join(place, 'refusing'), { ...base, 'chat_template.jinja': refusing })
    const tokenizer = await openTokenizer(folder)
    expect(() => tokenizer.chat(messages)).toThrow(/refuses these messages: System messages are not supported/)
    const broken = await writeTokenizer(join(place, 'broken-template'), { ...base, 'chat_template.jinja': '{% for %}' })
    await expect(openTokenizer(broken)).rejects.toThrow(/chat template cannot be read/)
  })
})

describe('checkVocabulary', () => {
  it('accepts a padded vocabulary and refuses one that the ids exceed', () => {
    const tokenizer = { size: 512 } as Awaited<ReturnType<typeof openTokenizer>>
    expect(() => checkVocabulary(tokenizer, 520)).not.toThrow()
    expect(() => checkVocabulary(tokenizer, 512)).not.toThrow()
    expect(() => checkVocabulary(tokenizer, 500)).toThrow(/ids up to 511.*ends at 499/)
  })
})

describe('a broken tokenizer', () => {
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['no tokenizer.json', { 'config.json': {} }, /no tokenizer.json/],
    ['no JSON', { 'tokenizer.json': '{' }, /tokenizer.json is not JSON/],
    ['no model', { 'tokenizer.json': {} }, /not usable: model/],
    ['no vocabulary', { 'tokenizer.json': { model: { type: 'BPE' } } }, /not usable: model.vocab/],
    ['an id that is text', { 'tokenizer.json': { model: { type: 'BPE', vocab: { a: 'b' }, merges: [] } } }, /not usable: model.vocab/],
    ['a negative id', { 'tokenizer.json': { model: { type: 'BPE', vocab: { a: -1 }, merges: [] } } }, /not usable: model.vocab/],
    [
      'an id beyond all vocabularies',
      { 'tokenizer.json': { model: { type: 'BPE', vocab: { a: 2 ** 31 }, merges: [] } } },
      /model.vocab.a is 2147483648; it must be at most 16,777,216/,
    ],
    ['an unknown kind', { 'tokenizer.json': { model: { type: 'Guess', vocab: { a: 0 } } } }, /not usable: model.type/],
    ['no merges', { 'tokenizer.json': { model: { type: 'BPE', vocab: { a: 0 } } } }, /cannot be used/],
    ['broken settings', { 'tokenizer.json': makeByteLevel([]), 'tokenizer_config.json': '[]' }, /must hold a JSON object/],
    [
      'an end token that is a number',
      { 'tokenizer.json': makeByteLevel([]), 'tokenizer_config.json': { eos_token: 3 } },
      /not usable: eos_token/,
    ],
  ]
  for (const [name, files, says] of cases) {
    it(`gives one error that says what is wrong: ${name}`, async () => {
      const folder = await writeTokenizer(join(place, name.replaceAll(' ', '-')), files)
      const error = await openTokenizer(folder).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(EspalierError)
      expect((error as EspalierError).message).toMatch(says)
      expect((error as EspalierError).message).not.toContain('\n')
    })
  }
})

const text = 'Größe – “quoted” 数字 🦊\n\ttabs and  spaces, naïve café.\n'

it('the tokens of a text cover its bytes, in byte-level and in SentencePiece vocabularies', async () => {
  for (const path of [join(resources, 'sample-model'), join(import.meta.dirname, '../../fixtures/stories260k')]) {
    const tokenizer = await openTokenizer(path)
    const ids = tokenizer.encode(text)
    const bytes = ids.reduce((sum, id) => sum + tokenizer.bytesOf(id), 0)
    // SentencePiece puts a space before a text.
    const before = path.endsWith('stories260k') ? 1 : 0
    expect(bytes).toBe(Buffer.byteLength(text) + before)
  }
})

it('special tokens cover nothing, other added tokens the text that they are', () => {
  const added = [
    { id: 0, content: '<s>', special: true },
    { id: 1, content: '▁▁é', special: false },
  ]
  const words = ['<s>', '▁▁é', '▁the', '<0x0A>', 'Ġthe', 'é', '##ing']
  const count = (decoder: object) => {
    const bytesOf = byteCounter({ added_tokens: added, decoder }, (id) => words[id])
    return words.map((_, id) => bytesOf(id)).concat(bytesOf(99))
  }
  const steps = [{ type: 'Replace' }, { type: 'ByteFallback' }]
  expect(count({ type: 'Sequence', decoders: steps })).toEqual([0, 8, 4, 1, 5, 2, 5, 0])
  expect(count({ type: 'ByteLevel' })).toEqual([0, 8, 4, 6, 4, 1, 5, 0])
  expect(count({ type: 'WordPiece' })).toEqual([0, 8, 7, 7, 6, 3, 3, 1])
})
