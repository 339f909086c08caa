import { expect, test } from 'vitest'
import { beginOf, type ModelEntry, smallerSiblings, textProblems } from '#contract/models/models.ts'

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
