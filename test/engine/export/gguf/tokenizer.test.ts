import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { openBackend } from '#engine/backend/backend.ts'
import { gguf } from '#engine/export/gguf/gguf.ts'
import { describeTokenizer, nameSplit } from '#engine/export/gguf/tokenizer.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan } from '#engine/pruning/plan.ts'
import { gpt2Pattern, llama3Pattern, qwen2Pattern } from '#engine/tokenizer/patterns.ts'
import { openTokenizer } from '#engine/tokenizer/tokenizer.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const sample = join(import.meta.dirname, '..', '..', '..', '..', 'resources', 'sample-model')
const folder = scratchFolder('gguf')
beforeAll(async () => {
  await openBackend('tensorflow')
})

describe('a tokenizer in a GGUF file', () => {
  it('gives the ids of the one it was made from', async () => {
    const model = await openModel(sample)
    const target = join(folder, 'sample')
    await gguf.write({ model, plan: densePlan(model.spec), method: 'dense', folder: target, ggufTypes: ['BF16'] })
    await model.close()
    const [file] = (await readdir(target)).filter((name) => name.endsWith('.gguf'))
    const [own, written] = [await openTokenizer(sample), await openTokenizer(join(target, file as string))]
    for (const text of ['The plant, 1,234 of them!', "it's  two  spaces\nand a line", 'naïve café 東京 <|endoftext|> x'])
      expect(written.encode(text)).toEqual(own.encode(text))
    expect(written.beginId).toBe(own.beginId)
  })

  it('names the ways of splitting text that llama.cpp knows, and no others', () => {
    const split = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })
    const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false }
    const sequence = (...pretokenizers: unknown[]) => ({ type: 'Sequence', pretokenizers })
    expect(nameSplit({ ...bytes, use_regex: true }, false)).toBe('gpt-2')
    expect(nameSplit(sequence(split(gpt2Pattern), bytes), false)).toBe('gpt-2')
    expect(nameSplit(sequence({ type: 'Digits', individual_digits: true }, { ...bytes, use_regex: true }), false)).toBe('smollm')
    expect(nameSplit(sequence(split(llama3Pattern), bytes), true)).toBe('llama-bpe')
    expect(nameSplit(sequence(split(qwen2Pattern), bytes), false)).toBe('qwen2')
    expect(nameSplit(sequence(split('\\d+'), bytes), false)).toBeUndefined()
    expect(nameSplit({ type: 'ByteLevel', add_prefix_space: true, use_regex: true }, false)).toBeUndefined()
  })

  it('orders SentencePiece scores as the merges are ordered, marks bytes and controls, and fills the list up', () => {
    const vocab = { '<unk>': 0, '<s>': 1, '</s>': 2, '<0x0A>': 3, '▁': 4, a: 5, b: 6, ab: 7, '▁ab': 8 }
    const metadata = describeTokenizer(
      {
        where: 'tokenizer.json',
        tokenizer: {
          normalizer: { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }] },
          added_tokens: [1, 2].map((id) => ({ id, content: id === 1 ? '<s>' : '</s>', special: true })),
          model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab, merges: [['a', 'b'], '▁ ab'] },
        },
        settings: { bos_token: '<s>', add_bos_token: true },
        beginToken: '<s>',
        endIds: [2],
      },
      { vocabulary: 10, config: { eos_token_id: 2 } },
    )
    const value = (key: string) => metadata.get(`tokenizer.ggml.${key}`)?.value
    expect(value('model')).toBe('llama')
    expect(value('scores')).toEqual([0, 0, 0, 0, 0, 0, 0, -1, -2, 0])
    expect(value('token_type')).toEqual([2, 3, 3, 6, 1, 1, 1, 1, 1, 5])
    expect([value('add_space_prefix'), value('add_bos_token'), value('bos_token_id'), value('eos_token_id')]).toEqual([true, true, 1, 2])
  })

  it('refuses a kind that llama.cpp cannot compute', () => {
    const files = { where: '', tokenizer: { model: { type: 'WordPiece', vocab: {} } }, settings: {}, endIds: [] }
    expect(() => describeTokenizer(files, { vocabulary: 1, config: {} })).toThrow(/WordPiece.*Choose the format stock/)
  })
})
