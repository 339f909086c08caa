import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describeModel } from '#engine/tasks/describe-model.ts'
import { deltaShapes, deltaSizes, makeZeros } from '../engine/checkpoint/gguf/make-gguf.ts'
import { layOut, makeValidMixture, toSafetensors, writeModelFiles } from '../engine/checkpoint/valid-model.ts'
import { mutateJson } from './mutate.ts'
import type { Random } from './random.ts'

const mixture = makeValidMixture()
const { header, data } = layOut(mixture.tensors)
const experts = {
  kept: 'all',
  experts: [0, 1, 3],
  keptByExpert: [
    [0, 1],
    [2, 3],
    [4, 5],
  ],
  constants: [2],
}
const layout = {
  ...{ format: 1, parent: 'x', method: 'reap' },
  blocks: [
    { attention: true, width: 2, experts: 4, constants: [2] },
    { attention: true, width: 12, experts: 4 },
  ],
  plan: {
    blocks: [
      { attention: 'kept', mlp: experts },
      { attention: 'kept', mlp: { kept: 'all' } },
    ],
  },
}

/** A valid folder of a mixture with one damaged file. */
const mixtureAttack = (name: string, spoil: (random: Random) => Uint8Array) => ({
  async write(folder: string, random: Random) {
    await writeModelFiles(folder, mixture)
    writeFileSync(join(folder, name), spoil(random))
  },
  read: describeModel,
})

const json = (value: unknown) => Buffer.from(JSON.stringify(value) ?? 'null')

const sizes: Readonly<Record<string, number>> = {
  ...{ block_count: 1, context_length: 64, embedding_length: 8, feed_forward_length: 12, expert_feed_forward_length: 12 },
  ...{ 'attention.head_count': 2, 'attention.head_count_kv': 2, 'attention.key_length': 4 },
  ...{ expert_count: 4, expert_used_count: 2, expert_gating_func: 1 },
}
const shapes: Readonly<Record<string, readonly number[]>> = {
  ...{ 'token_embd.weight': [6, 8], 'output_norm.weight': [8], 'blk.0.attn_norm.weight': [8], 'blk.0.ffn_norm.weight': [8] },
  ...Object.fromEntries(['q', 'k', 'v', 'output'].map((part) => [`blk.0.attn_${part}.weight`, [8, 8]])),
  ...{ 'blk.0.attn_q_norm.weight': [4], 'blk.0.attn_k_norm.weight': [4], 'blk.0.ffn_gate_inp.weight': [4, 8] },
  ...{ 'blk.0.ffn_gate_exps.weight': [4, 12, 8], 'blk.0.ffn_up_exps.weight': [4, 12, 8], 'blk.0.ffn_down_exps.weight': [4, 8, 12] },
}

/** GGUF files with some sizes changed, and with tensors resized, repeated, or missing. */
const ggufAttack = (
  architecture: string,
  sizes: Readonly<Record<string, number>>,
  shapes: Readonly<Record<string, readonly number[]>>,
) => ({
  write: async (folder: string, random: Random) => {
    const changed = (value: number) => (random.chance(0.04) ? random.pick([0, 1, value - 1, value + 1, 2 * value, 2 ** 31]) : value)
    const own = Object.fromEntries(Object.entries(sizes).map(([key, value]) => [key, changed(value)]))
    const tensors = Object.entries(shapes).flatMap(([name, shape]) => {
      const tensor = [name, shape.map((size) => Math.min(64, changed(size)))] as const
      return random.chance(0.01) ? [] : random.chance(0.01) ? [tensor, tensor] : [tensor]
    })
    writeFileSync(join(folder, 'model.gguf'), makeZeros(architecture, own, tensors))
  },
  read: (folder: string) => describeModel(join(folder, 'model.gguf')),
})

/** Mixtures of experts: their config, their tensors, and pruned ones; and a Gated DeltaNet. */
export const mixtureAttacks = {
  'mixture config': mixtureAttack('config.json', (random) => json(mutateJson(mixture.config, random))),
  'mixture header': mixtureAttack('model.safetensors', (random) => toSafetensors(mutateJson(header, random), data)),
  'mixture gguf': ggufAttack('qwen3moe', sizes, shapes),
  'delta gguf': ggufAttack('qwen35', deltaSizes, deltaShapes),
  'mixture layout': mixtureAttack('espalier.json', (random) => json(mutateJson(layout, random))),
}
