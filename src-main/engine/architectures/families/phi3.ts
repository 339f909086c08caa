import { type Architecture, linear, readActivation, readSizes } from '../common.ts'
import { all, type Dialect, deci, plain, silu, usualHeads } from '../dialect.ts'
import { readRotary } from '../rotary-frequencies.ts'
import type { Projection } from '../spec.ts'

const dialect: Dialect = {
  ...plain,
  architecture: 'phi3',
  joinsQueryKeyValue: true,
  joinsGateUp: true,
  takesFactors: true,
  problem: all(usualHeads, silu),
}

/** Phi-3 stores query, key and value in one tensor and gate and up in another: each projection is a range of rows. */
export const phi3: Architecture = {
  modelType: 'phi3',
  title: 'Phi-3',
  examples: 'Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini',
  gguf: { own: dialect, perBlock: deci },
  read(config, layout) {
    const sizes = readSizes(config, layout)
    const { hidden, heads, keyValueHeads, headSize, blocks } = sizes
    const rotary = readRotary(config, headSize)
    const window = config.optionalInteger('sliding_window')
    const tied = config.boolean('tie_word_embeddings', false)
    return {
      family: 'phi3',
      ...sizes,
      norm: { kind: 'rms', epsilon: config.number('rms_norm_eps', 1e-5) },
      activation: readActivation(config),
      parallelResidual: false,
      rotary: () => rotary,
      slidingWindow: () => window,
      embedding: 'model.embed_tokens.weight',
      finalNorm: { weight: 'model.norm.weight' },
      head: { weight: tied ? 'model.embed_tokens.weight' : 'lm_head.weight' },
      block(index, named = index) {
        const name = `model.layers.${named}`
        const width = blocks[index]?.width || sizes.intermediate
        const rows = (weight: string, firstRow: number, count: number): Projection => ({ weight, firstRow, rows: count, columns: hidden })
        const qkv = `${name}.self_attn.qkv_proj.weight`
        const gateUp = `${name}.mlp.gate_up_proj.weight`
        const queryRows = heads * headSize
        const keyRows = keyValueHeads * headSize
        return {
          attentionNorm: { weight: `${name}.input_layernorm.weight` },
          query: rows(qkv, 0, queryRows),
          key: rows(qkv, queryRows, keyRows),
          value: rows(qkv, queryRows + keyRows, keyRows),
          output: linear(`${name}.self_attn.o_proj`, hidden, queryRows),
          mlpNorm: { weight: `${name}.post_attention_layernorm.weight` },
          gate: rows(gateUp, 0, width),
          up: rows(gateUp, width, width),
          down: linear(`${name}.mlp.down_proj`, hidden, width),
        }
      },
    }
  },
}
