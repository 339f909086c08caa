import { describe, expect, it } from 'vitest'
import { readSpec } from '#engine/architectures/index.ts'
import { budgetFor } from '#engine/pruning/budget.ts'
import { roundHalfEven } from '#engine/pruning/selection.ts'

const qwen = readSpec({
  model_type: 'qwen2',
  rms_norm_eps: 1e-6,
  hidden_act: 'silu',
  max_position_embeddings: 4096,
  vocab_size: 32000,
  num_hidden_layers: 28,
  hidden_size: 3584,
  intermediate_size: 18944,
  num_attention_heads: 28,
  num_key_value_heads: 4,
})

describe('a budget', () => {
  it('rounds halves to the even neighbour', () => {
    expect([0.5, 1.5, 2.5, -0.5, 7.5, 2.4].map(roundHalfEven)).toEqual([0, 2, 2, 0, 8, 2].map((value) => expect.closeTo(value)))
  })

  it('rounds whole blocks up, and takes an amount in blocks unchanged', () => {
    expect(budgetFor(qwen, { sparsity: 0.375 })).toEqual({ sparsity: 0.375, blocks: 11 })
    expect(budgetFor(qwen, { sparsity: 0.25 })).toEqual({ sparsity: 0.25, blocks: 7 })
    expect(budgetFor(qwen, { blocks: 11 })).toEqual({ sparsity: 11 / 28, blocks: 11 })
    expect(() => budgetFor(qwen, { blocks: 29 })).toThrow('29 blocks cannot be removed: the model has 28')
  })
})
