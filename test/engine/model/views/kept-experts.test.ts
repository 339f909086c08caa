import { expect, test } from 'vitest'
import type { MlpPlan } from '#contract/pruning/plan.ts'
import { readSpec } from '#engine/architectures/index.ts'
import { checkExperts } from '#engine/model/views/kept-experts.ts'

const config = {
  model_type: 'glm4_moe',
  hidden_size: 16,
  intermediate_size: 32,
  moe_intermediate_size: 4,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  num_hidden_layers: 2,
  vocab_size: 32,
  n_routed_experts: 8,
  num_experts_per_tok: 3,
}

type Kept = Partial<Exclude<MlpPlan, 'removed'>>
const check = (mlp: Kept, { block = 1, ...groups }: { block?: number; n_group?: number; topk_group?: number } = {}) =>
  checkExperts(readSpec({ ...config, ...groups }), block, { kept: 'all', ...mlp })

test.each<[string, Kept, string]>([
  ['experts of a dense block', { experts: [0] }, 'its MLP is not a mixture of experts'],
  ['an expert that is not there', { experts: [0, 1, 8] }, 'numbers must be ascending and below 8, but it has 8'],
  ['an expert named twice', { experts: [0, 1, 1, 2] }, 'it has 1'],
  ['constants alone', { constants: [1] }, 'it lists constants, but not the experts that stay'],
  ['an expert that is also a constant', { experts: [0, 1, 2], constants: [2] }, 'expert 2 both stays and is a constant'],
  ['neurons of too few experts', { experts: [0, 1, 2], keptByExpert: [[0], [0]] }, 'it lists neurons of 2 experts, but 3 stay'],
  ['a neuron that is not there', { experts: [0, 1, 2], keptByExpert: [[0], [0], [4]] }, 'below 4, but it has 4'],
  ['widths that differ', { experts: [0, 1, 2], keptByExpert: [[0], [0, 1], [0]] }, 'the same number of neurons'],
  ['no neurons', { experts: [0, 1, 2], keptByExpert: [[], [], []] }, 'the same number of neurons'],
  ['fewer experts than the router picks', { experts: [0, 1] }, 'The plan leaves 2 experts in block 1; its router needs at least 3.'],
])('%s are refused', (_what, mlp, message) => {
  expect(() => check(mlp, { block: _what === 'experts of a dense block' ? 0 : 1 })).toThrow(message)
})

test('groups must stay equal, with what the router picks in those that it opens', () => {
  const groups = { n_group: 2, topk_group: 1 }
  expect(() => check({ experts: [0, 1, 2, 4, 5] }, groups)).toThrow('needs at least 6, in 2 groups of equal size')
  expect(() => check({ experts: [0, 1, 2, 3, 4, 5, 6] }, groups)).toThrow('leaves 7 experts')
  expect(() => check({ experts: [0, 1, 2, 4, 5, 6] }, groups)).not.toThrow()
})

test('experts that become vectors stay within the router’s choice', () => {
  expect(() => check({ experts: [0, 3], constants: [1, 2] })).not.toThrow()
  expect(() => check({ experts: [0, 3] })).toThrow('leaves 2 experts')
})
