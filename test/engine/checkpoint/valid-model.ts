import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** A model folder as plain data, so that a test can damage any part of it before writing it. */
export interface ModelFiles {
  config: Record<string, unknown>
  tensors: Record<string, { dtype: string; shape: number[]; bytes: Uint8Array }>
}

/** Sizes of the valid model. */
export const sizes = { hidden: 8, intermediate: 12, heads: 2, blocks: 2, vocabulary: 512 }

/** A tiny working Llama of two blocks, which the malformed models are damaged copies of. */
export function makeValidModel(): ModelFiles {
  const { hidden, intermediate, heads, blocks, vocabulary } = sizes
  const tensors: ModelFiles['tensors'] = {}
  const add = (name: string, ...shape: number[]) => {
    tensors[name] = {
      dtype: 'F32',
      shape,
      bytes: makeWeights(
        shape.reduce((a, b) => a * b, 1),
        Object.keys(tensors).length,
      ),
    }
  }
  add('model.embed_tokens.weight', vocabulary, hidden)
  for (let block = 0; block < blocks; block++) {
    const layer = `model.layers.${block}`
    for (const projection of ['q', 'k', 'v', 'o']) add(`${layer}.self_attn.${projection}_proj.weight`, hidden, hidden)
    for (const projection of ['gate', 'up']) add(`${layer}.mlp.${projection}_proj.weight`, intermediate, hidden)
    add(`${layer}.mlp.down_proj.weight`, hidden, intermediate)
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`${layer}.${norm}.weight`, hidden)
  }
  add('model.norm.weight', hidden)
  add('lm_head.weight', vocabulary, hidden)
  return { config: makeConfig(hidden, intermediate, heads, blocks, vocabulary), tensors }
}

/** The same as a Mixtral with four experts in each block, of which each token uses two. */
export function makeValidMixture(): ModelFiles {
  const { config, tensors } = makeValidModel()
  const { hidden, blocks } = sizes
  for (let block = 0; block < blocks; block++) {
    const layer = `model.layers.${block}`
    for (const [own, name] of [
      ['gate', 'w1'],
      ['up', 'w3'],
      ['down', 'w2'],
    ] as const) {
      const dense = `${layer}.mlp.${own}_proj.weight`
      const tensor = tensors[dense]
      delete tensors[dense]
      for (let expert = 0; tensor && expert < 4; expert++)
        tensors[`${layer}.block_sparse_moe.experts.${expert}.${name}.weight`] = { ...tensor }
    }
    tensors[`${layer}.block_sparse_moe.gate.weight`] = { dtype: 'F32', shape: [4, hidden], bytes: makeWeights(4 * hidden, block) }
  }
  const experts = { model_type: 'mixtral', architectures: ['MixtralForCausalLM'], num_local_experts: 4, num_experts_per_tok: 2 }
  return { config: { ...config, ...experts }, tensors }
}

function makeConfig(hidden: number, intermediate: number, heads: number, blocks: number, vocabulary: number): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: blocks,
    num_attention_heads: heads,
    num_key_value_heads: heads,
    vocab_size: vocabulary,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
  }
}

function makeWeights(count: number, seed: number): Uint8Array {
  return new Uint8Array(Float32Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898 + seed * 78.233) * 0.2).buffer)
}

export type Entry = Record<string, unknown>
export type Header = Record<string, Entry>

/** Lays tensors out one after the other: the header's entries and the data. */
export function layOut(tensors: ModelFiles['tensors']): { header: Header; data: Uint8Array } {
  const header: Header = {}
  let begin = 0
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [begin, begin + bytes.length] }
    begin += bytes.length
  }
  return { header, data: Buffer.concat(Object.values(tensors).map(({ bytes }) => bytes)) }
}

/** The bytes of a safetensors file with an arbitrary header. */
export function toSafetensors(header: unknown, data: Uint8Array, headerLength?: bigint): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(headerLength ?? BigInt(text.length))
  return Buffer.concat([length, text, data])
}

/** Writes a model folder with one safetensors file. */
export async function writeModelFiles(folder: string, { config, tensors }: ModelFiles): Promise<void> {
  const { header, data } = layOut(tensors)
  await writeParts(folder, config, toSafetensors(header, data))
}

/** Writes a config and a weights file with arbitrary content. */
export async function writeParts(folder: string, config: unknown, safetensors: Uint8Array): Promise<void> {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config))
  await writeFile(join(folder, 'model.safetensors'), safetensors)
}
