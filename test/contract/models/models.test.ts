import { expect, test } from 'vitest'
import { readFileName, typeInName } from '#contract/exports/exports.ts'
import { beginOf, type ModelEntry, savedFrom, smallerSiblings, textProblems } from '#contract/models/models.ts'

function model(
  id: string,
  total: number,
  changes: { family?: string; vocabulary?: number; plan?: object; parent?: string; present?: boolean },
) {
  const { family = 'llama', vocabulary = 100, plan = null, parent = null, present = true } = changes
  const description = { family, tokenizer: 'BPE', shape: { vocabulary }, parameters: { total }, plan }
  return { id, parent, present, description } as unknown as ModelEntry
}

test('siblings are smaller unpruned models of the same family and vocabulary, the largest first', () => {
  const own = model('own', 100, {})
  const others = [
    model('small', 10, {}),
    model('smaller', 50, {}),
    model('larger', 200, {}),
    model('other family', 10, { family: 'qwen3' }),
    model('other vocabulary', 10, { vocabulary: 99 }),
    model('pruned here', 10, { parent: 'own' }),
    model('pruned elsewhere', 10, { plan: { blocks: [] } }),
    model('gone', 10, { present: false }),
  ]
  expect(smallerSiblings(own, [own, ...others]).map(({ id }) => id)).toEqual(['smaller', 'small'])
})

test('a saved model from which nothing was removed says its type, not that it was pruned', () => {
  const origin = (name: string, method: string, reached: number | null) => {
    const pruned = { method, reached, perplexity: null, weights: null }
    return savedFrom({ path: `/models/saved/${name}`, pruned, description: { dtype: 'bfloat16' } as ModelEntry['description'] }, 'Qwen')
  }
  expect(origin('qwen-2ssp-Q8_0.gguf', '2ssp', 0.25)).toBe('pruned from Qwen')
  expect(origin('qwen-dense-Q8_0.gguf', 'dense', 0)).toBe('saved in Q8_0 from Qwen')
  expect(origin('qwen-gates-MIXED-84MB-00001-of-00003.gguf', 'gates', 0)).toBe('saved in mixed types (84 MB) from Qwen')
  expect(origin('stock', 'dense', 0)).toBe('saved in bfloat16 from Qwen')
  expect(origin('qwen-vocabulary-F16.gguf', 'vocabulary', 0), 'rows of the vocabulary are gone').toBe('pruned from Qwen')
})

test('files of mixed types say their size in megabytes, and no two sizes share a name', () => {
  const sizes = [84_000_000, 84_000_001, 84_500_000, 1_610_612_736].map((bytes) => `MIXED:${bytes}`)
  expect(sizes.map(typeInName)).toEqual(['MIXED-84MB', 'MIXED-84.000001MB', 'MIXED-84.5MB', 'MIXED-1610.612736MB'])
  for (const type of ['Q4_K_M', ...sizes])
    for (const part of ['', '-00001-of-00002'])
      expect(readFileName(`qwen2.5-0.5b-dense-${typeInName(type)}${part}.gguf`)).toEqual({
        stem: `qwen2.5-0.5b-dense-${typeInName(type)}`,
        type,
      })
  expect(readFileName('notes.gguf')).toBeNull()
})

type Begins = ModelEntry['description']['begins']

const reading = (tokenizer: string | null, begins: Begins, figures?: [number, number], format = 'safetensors') =>
  ({
    description: { tokenizer, format, ...(begins ? { begins } : {}) },
    beginFigures: figures ? { without: figures[0], with: figures[1], windows: 4, sequenceLength: 256, measuredAt: 0 } : null,
  }) as unknown as ModelEntry

test('a model says how its windows begin, with both perplexities once they were measured', () => {
  const gemma = { token: '<bos>', added: true, needed: true }
  expect(beginOf(reading('262,144 tokens', gemma, [241.23, 45.67]))).toBe(
    'windows begin with <bos>: perplexity 45.67 with it, 241.2 without',
  )
  expect(beginOf(reading('x', { token: '<s>', added: true }, [20, 19]))).toContain('windows begin without <s>: perplexity 19.00 with it')
  expect(beginOf(reading('x', gemma))).toBe('texts begin with <bos>, windows not measured yet')
  expect(beginOf(reading('x', undefined))).toBe('no begin token')
  expect(beginOf(reading(null, undefined))).toBe('not known without a tokenizer')
})

test('a model without a tokenizer, or whose texts begin wrongly, says so and what to do', () => {
  expect(textProblems(reading(null, undefined))).toEqual([expect.stringMatching(/no tokenizer.*Place its tokenizer\.json in its folder/)])
  expect(textProblems(reading(null, undefined, undefined, 'gguf'))[0]).toContain('beside the file')
  const fine = [
    reading('x', undefined),
    reading('x', { token: '<s>', added: true }),
    reading('x', { token: '<bos>', added: true, needed: true }, [241, 45]),
    reading('x', { token: '<|endoftext|>', added: false }, [83, 135]),
  ]
  for (const one of fine) expect(textProblems(one)).toEqual([])
  const [missing] = textProblems(reading('x', { token: '<bos>', added: false, needed: true }, undefined, 'gguf'))
  expect(missing).toMatch(/needs <bos> before every text, but its tokenizer does not add it.*tokenizer\.ggml\.add_bos_token to true/)
  expect(textProblems(reading('x', { token: '<s>', added: false }, [105, 32]))[0]).toMatch(
    /perplexity 32\.00 with it, 105\.0 without.*add_bos_token to true/,
  )
  expect(textProblems(reading('x', { token: '<s>', added: true }, [83, 135]))[0]).toMatch(/worse with it.*add_bos_token to false/)
  expect(textProblems(reading('x', { token: null, added: false, needed: true }))[0]).toContain('names none')
})
