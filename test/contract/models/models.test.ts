import { expect, test } from 'vitest'
import { type ModelEntry, smallerSiblings } from '#contract/models/models.ts'

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
