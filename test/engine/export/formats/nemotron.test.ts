import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { Plan } from '#contract/pruning/plan.ts'
import { openBackend } from '#engine/backend/backend.ts'
import { openSafetensors } from '#engine/checkpoint/safetensors/safetensors-header.ts'
import { nemotron } from '#engine/export/formats/nemotron.ts'
import { openModel } from '#engine/model/model.ts'
import { densePlan, removeParts } from '#engine/pruning/plan.ts'
import { type FamilyModel, type ReferenceModel, referenceModel } from '../../../fixtures/reference.ts'
import { scratchFolder } from '../../../fixtures/scratch.ts'

const folder = scratchFolder('nemotron')
beforeAll(async () => {
  await openBackend('tensorflow')
})

async function write(name: ReferenceModel | FamilyModel, parts: readonly number[], narrow = 0): Promise<string> {
  const model = await openModel(await referenceModel(name))
  const plan: Plan = removeParts(densePlan(model.spec), parts)
  for (const block of plan.blocks)
    if (narrow > 0 && block.mlp !== 'removed') block.mlp = { kept: Array.from({ length: narrow }, (_, i) => i) }
  const target = join(folder, `${name}-${parts.join('-')}`)
  try {
    await nemotron.write({ model, plan, method: 'test', folder: target })
  } finally {
    await model.close()
  }
  return target
}

interface Blocks {
  readonly qkv_bias: boolean
  readonly attention_bias: boolean
  readonly hidden_size: number
  readonly head_dim: number
  readonly num_attention_heads: number
  readonly block_configs: {
    readonly attention: { readonly no_op: boolean; readonly n_heads_in_group: number | null }
    readonly ffn: { readonly no_op: boolean; readonly intermediate_size: number | null }
  }[]
}

/** The tensors that vLLM's reader builds for a block, with their shapes. */
function expectedTensors(config: Blocks): Map<string, number[]> {
  const { hidden_size: hidden, head_dim: size, num_attention_heads: heads } = config
  const tensors = new Map<string, number[]>()
  for (const [index, { attention, ffn }] of config.block_configs.entries()) {
    const name = `model.layers.${index}`
    const grouped = (heads / (attention.n_heads_in_group ?? 1)) * size
    if (!attention.no_op) {
      tensors.set(`${name}.input_layernorm.weight`, [hidden])
      const rows = { q_proj: heads * size, k_proj: grouped, v_proj: grouped }
      for (const [key, count] of Object.entries(rows)) {
        tensors.set(`${name}.self_attn.${key}.weight`, [count, hidden])
        if (config.qkv_bias) tensors.set(`${name}.self_attn.${key}.bias`, [count])
      }
      tensors.set(`${name}.self_attn.o_proj.weight`, [hidden, heads * size])
      if (config.attention_bias) tensors.set(`${name}.self_attn.o_proj.bias`, [hidden])
    }
    if (ffn.no_op || ffn.intermediate_size === null) continue
    tensors.set(`${name}.post_attention_layernorm.weight`, [hidden])
    for (const key of ['gate_proj', 'up_proj']) tensors.set(`${name}.mlp.${key}.weight`, [ffn.intermediate_size, hidden])
    tensors.set(`${name}.mlp.down_proj.weight`, [hidden, ffn.intermediate_size])
  }
  return tensors
}

test.each(['stories260k', 'qwen2-tiny', 'phi3-tiny'] as const)(
  '%s has exactly the tensors that vLLM builds for its blocks',
  async (name) => {
    const target = await write(name, [3, 6], 33)
    const config = JSON.parse(await readFile(join(target, 'config.json'), 'utf8')) as Blocks
    expect(config).toMatchObject({
      model_type: 'nemotron-nas',
      architectures: ['DeciLMForCausalLM'],
      num_key_value_heads: null,
      intermediate_size: null,
    })
    expect(config.qkv_bias).toBe(name === 'qwen2-tiny')
    expect(config.block_configs.map(({ attention, ffn }) => [attention.no_op, ffn.intermediate_size])).toContainEqual([true, 33])
    const { tensors, handle } = await openSafetensors(join(target, 'model.safetensors'))
    await handle.close()
    const stored = [...tensors.values()]
      .filter(({ name: own }) => own.startsWith('model.layers.'))
      .map(({ name: own, shape }) => [own, [...shape]])
    expect(Object.fromEntries(stored)).toEqual(Object.fromEntries(expectedTensors(config)))
  },
)

test.each([
  ['stories260k', [0], 'needs attention in the first block'],
  ['mistral-window', [2], 'sliding window'],
  ['phi3-longrope', [2], 'sliding window'],
  ['phi-tiny', [2], 'not built like those of Llama'],
  ['qwen3', [2], 'norms where the blocks of Llama have none'],
] as const)('%s without parts %j is refused with the formats that can hold it', async (name, parts, reason) => {
  await expect(write(name, parts)).rejects.toThrow(reason)
  await expect(write(name, parts)).rejects.toThrow('Choose exact, stock or gguf')
})
