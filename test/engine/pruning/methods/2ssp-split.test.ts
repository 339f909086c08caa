import { describe, expect, it } from 'vitest'
import { readSpec } from '#engine/architectures/index.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { splitTwoStage } from '#engine/pruning/methods/2ssp.ts'

const common = { rms_norm_eps: 1e-5, hidden_act: 'silu', max_position_embeddings: 4096, vocab_size: 32000 }
const llama = (blocks: number, hidden: number, intermediate: number, heads: number): DecoderSpec =>
  readSpec({
    ...common,
    model_type: 'llama',
    num_hidden_layers: blocks,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_attention_heads: heads,
  })
const specs = {
  'Llama-2-7B': llama(32, 4096, 11008, 32),
  'Mistral-7B-v0.3': readSpec({
    ...common,
    model_type: 'mistral',
    num_hidden_layers: 32,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_attention_heads: 32,
    num_key_value_heads: 8,
  }),
  'Qwen2.5-7B': readSpec({
    ...common,
    model_type: 'qwen2',
    num_hidden_layers: 28,
    hidden_size: 3584,
    intermediate_size: 18944,
    num_attention_heads: 28,
    num_key_value_heads: 4,
  }),
  'Phi-3-medium': readSpec({
    ...common,
    model_type: 'phi3',
    num_hidden_layers: 40,
    hidden_size: 5120,
    intermediate_size: 17920,
    num_attention_heads: 40,
    num_key_value_heads: 10,
  }),
  stories15M: llama(6, 288, 768, 6),
  stories42M: llama(8, 512, 1376, 8),
  stories110M: llama(12, 768, 2048, 12),
}

/** Per model: attention submodules removed and neurons kept at 25, 37.5 and 50 %. */
const golden: Record<keyof typeof specs, [number, number][]> = {
  'Llama-2-7B': [
    [5, 7744],
    [9, 6368],
    [13, 4992],
  ],
  'Mistral-7B-v0.3': [
    [1, 10005],
    [2, 7893],
    [5, 5994],
  ],
  'Qwen2.5-7B': [
    [0, 13525],
    [0, 10816],
    [1, 8204],
  ],
  'Phi-3-medium': [
    [1, 12480],
    [3, 9920],
    [6, 7466],
  ],
  stories15M: [
    [1, 544],
    [2, 464],
    [2, 320],
  ],
  stories42M: [
    [1, 946],
    [2, 774],
    [3, 602],
  ],
  stories110M: [
    [2, 1450],
    [3, 1152],
    [5, 938],
  ],
}

describe('the division of a sparsity among attention and MLPs', () => {
  it.each(Object.entries(golden))('equals Eq. 5 with Python rounding for %s', (name, rows) => {
    rows.forEach(([attention, neurons], i) => {
      const split = splitTwoStage(specs[name as keyof typeof specs], [0.25, 0.375, 0.5][i] ?? 0, 1.5)
      expect([split.attention, split.neurons]).toEqual([attention, neurons])
    })
  })

  it('names the feasible range when attention alone exceeds the target or the MLPs cannot reach it', () => {
    expect(() => splitTwoStage(specs['Mistral-7B-v0.3'], 0.1, 1.5, 30)).toThrow(
      /0\.1 cannot be reached by removing 30 attention submodules, which allows 0\.1803/,
    )
    expect(() => splitTwoStage(specs['Llama-2-7B'], 0.9, 1.5, 0)).toThrow(/0\.0000 to 0\.668/)
    expect(() => splitTwoStage(specs.stories15M, 0.5, 1.5, 7)).toThrow('removes 7 attention submodules, but the model has 6')
  })
})
