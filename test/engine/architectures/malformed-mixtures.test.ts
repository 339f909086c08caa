import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readSpec } from '#engine/architectures/index.ts'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { scratchFolder } from '../../fixtures/scratch.ts'
import { type ModelFiles, makeValidMixture, writeModelFiles } from '../checkpoint/valid-model.ts'

const place = scratchFolder('malformed-mixtures')

async function opened(name: string, change: (model: ModelFiles) => void) {
  const model = makeValidMixture()
  change(model)
  await writeModelFiles(join(place, name), model)
  return describeModel(join(place, name))
}

const gate = 'model.layers.0.block_sparse_moe.gate.weight'
const expert = (number: number) => `model.layers.1.block_sparse_moe.experts.${number}.w2.weight`

test('a sound mixture opens, with its experts and the parameters that a token uses', async () => {
  const { blocks, parameters } = await opened('sound', () => undefined)
  expect(blocks.map(({ experts }) => experts)).toEqual([4, 4])
  expect(parameters.active).toBe(parameters.total - 2 * 2 * 3 * 8 * 12)
})

test.each<[string, (model: ModelFiles) => void, RegExp]>([
  ['a missing expert', ({ tensors }) => delete tensors[expert(2)], /layers\.1\.block_sparse_moe\.experts\.2\.w2/],
  ['an expert of another width', ({ tensors }) => Object.assign(tensors[expert(3)] ?? {}, { shape: [12, 8] }), /experts\.3\.w2/],
  ['a router of the wrong size', ({ tensors }) => Object.assign(tensors[gate] ?? {}, { shape: [2, 16] }), /block_sparse_moe\.gate/],
  ['more experts in the config than in the file', ({ config }) => Object.assign(config, { num_local_experts: 5 }), /block_sparse_moe/],
  ['fewer experts in the config than in the file', ({ config }) => Object.assign(config, { num_local_experts: 3 }), /block_sparse_moe/],
  ['a router that picks more than there are', ({ config }) => Object.assign(config, { num_experts_per_tok: 5 }), /more than the 4 experts/],
])('%s is refused by name, before anything is computed', async (name, change, says) => {
  await expect(opened(name, change)).rejects.toThrow(says)
})

test.each<[string, Record<string, unknown>, RegExp]>([
  ['groups that do not divide', { n_group: 3 }, /n_group 3 does not divide the 8 experts/],
  ['more open groups than there are', { n_group: 2, topk_group: 3 }, /topk_group 3 is more than n_group 2/],
  ['open groups with too few experts', { n_group: 4, topk_group: 1, num_experts_per_tok: 3 }, /1 of 4 groups hold 2 experts.* uses 3/],
  ['groups of one expert', { n_group: 8, topk_group: 4 }, /each group needs two/],
])('%s are refused by name', (_, change, says) => {
  const sizes = { hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, vocab_size: 512 }
  const mixture = { model_type: 'glm4_moe', n_routed_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 32 }
  expect(() => readSpec({ ...sizes, ...mixture, n_group: 2, topk_group: 1 })).not.toThrow()
  expect(() => readSpec({ ...sizes, ...mixture, ...change })).toThrow(says)
})
