import { existsSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fromFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type TensorToWrite, writeSafetensors } from '#engine/checkpoint/safetensors/write-safetensors.ts'

/** A Llama-shaped model to be written with seeded weights. */
export interface Shape {
  readonly blocks: number
  readonly hidden: number
  readonly intermediate: number
  readonly heads: number
  readonly keyValueHeads: number
  readonly vocabulary: number
  readonly dtype: 'F32' | 'BF16' | 'F16'
}

export const smolShape: Shape = {
  blocks: 30,
  hidden: 576,
  intermediate: 1536,
  heads: 9,
  keyValueHeads: 3,
  vocabulary: 49152,
  dtype: 'BF16',
}

/** Seeded 32-bit numbers (xorshift), and values of mean 0 and deviation 1 made from them, which are fast rather than exactly normal. */
export class Draws {
  #state: number

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1
  }

  integer(): number {
    let x = this.#state
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#state = x
    return x >>> 0
  }

  fill(values: Float32Array, deviation: number): Float32Array {
    const scale = (deviation * Math.sqrt(6)) / 2 ** 32
    for (let i = 0; i < values.length; i++) values[i] = (this.integer() - this.integer()) * scale
    return values
  }
}

/**
 * Writes the model into a folder of `home`, unless it is there already, and returns the folder. Blocks and neurons differ in strength by
 * seeded factors, so that no choice among them depends on rounding.
 */
export function makeModel(home: string, shape: Shape): Promise<string> {
  return writeOnce(modelFolder(home, shape), configOf(shape), tensorsOf(shape))
}

export const modelFolder = (home: string, shape: Shape): string => join(home, `llama-${Object.values(shape).join('-')}`)

async function writeOnce(folder: string, config: object, tensors: readonly TensorToWrite[]): Promise<string> {
  if (existsSync(folder)) return folder
  const unfinished = `${folder}.${process.pid}`
  await mkdir(unfinished, { recursive: true })
  try {
    await writeFile(join(unfinished, 'config.json'), JSON.stringify(config))
    await writeSafetensors(join(unfinished, 'model.safetensors'), tensors)
    await rename(unfinished, folder)
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
  return folder
}

function configOf({ blocks, hidden, intermediate, heads, keyValueHeads, vocabulary }: Shape): object {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    num_hidden_layers: blocks,
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    vocab_size: vocabulary,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: true,
  }
}

function tensorsOf(shape: Shape): TensorToWrite[] {
  const { hidden, intermediate, heads, keyValueHeads, vocabulary } = shape
  const headSize = hidden / heads
  const tensors: TensorToWrite[] = []
  const add = (name: string, size: readonly number[], bytes: (draws: Draws) => Float32Array) => {
    const seed = tensors.length
    tensors.push({ name: `${name}.weight`, dtype: shape.dtype, shape: size, bytes: () => encode(bytes(new Draws(seed)), shape.dtype) })
  }
  const matrix = (name: string, rows: number, columns: number, deviation: number) =>
    add(name, [rows, columns], (draws) => draws.fill(new Float32Array(rows * columns), deviation))
  const ones = (name: string) => add(name, [hidden], () => new Float32Array(hidden).fill(1))
  const width = 1 / Math.sqrt(hidden)
  matrix('model.embed_tokens', vocabulary, hidden, 0.05)
  for (let block = 0; block < shape.blocks; block++) {
    const name = `model.layers.${block}`
    const strength = (salt: number) => 0.02 + 0.1 * (new Draws(1000 * block + salt).integer() / 2 ** 32)
    ones(`${name}.input_layernorm`)
    ones(`${name}.post_attention_layernorm`)
    matrix(`${name}.self_attn.q_proj`, heads * headSize, hidden, 1.5 * width)
    matrix(`${name}.self_attn.k_proj`, keyValueHeads * headSize, hidden, 1.5 * width)
    matrix(`${name}.self_attn.v_proj`, keyValueHeads * headSize, hidden, width)
    matrix(`${name}.self_attn.o_proj`, hidden, heads * headSize, strength(1) * width)
    matrix(`${name}.mlp.gate_proj`, intermediate, hidden, width)
    add(`${name}.mlp.up_proj`, [intermediate, hidden], (draws) => {
      const values = draws.fill(new Float32Array(intermediate * hidden), width)
      for (let row = 0; row < intermediate; row++) {
        const factor = 0.5 + draws.integer() / 2 ** 32
        for (let i = row * hidden; i < (row + 1) * hidden; i++) values[i] = (values[i] ?? 0) * factor
      }
      return values
    })
    matrix(`${name}.mlp.down_proj`, hidden, intermediate, strength(2) * width)
  }
  ones('model.norm')
  return tensors
}

function encode(values: Float32Array, dtype: Shape['dtype']): Uint8Array {
  if (dtype !== 'BF16') return fromFloat32(values, dtype)
  const words = new Uint32Array(values.buffer)
  const halves = new Uint16Array(words.length)
  for (let i = 0; i < words.length; i++) halves[i] = ((words[i] as number) + 0x8000) >>> 16
  return new Uint8Array(halves.buffer)
}

/** A mixture with the widths of Qwen3-30B-A3B, in bfloat16. */
export interface MixtureShape {
  readonly blocks: number
  readonly vocabulary: number
}

const mixture = { hidden: 2048, width: 768, experts: 128, heads: 32, keyValueHeads: 4, headSize: 128 }

function mixtureConfig({ blocks, vocabulary }: MixtureShape): object {
  return {
    architectures: ['Qwen3MoeForCausalLM'],
    model_type: 'qwen3_moe',
    num_hidden_layers: blocks,
    hidden_size: mixture.hidden,
    moe_intermediate_size: mixture.width,
    intermediate_size: 6144,
    num_experts: mixture.experts,
    num_experts_per_tok: 8,
    norm_topk_prob: true,
    num_attention_heads: mixture.heads,
    num_key_value_heads: mixture.keyValueHeads,
    head_dim: mixture.headSize,
    vocab_size: vocabulary,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    torch_dtype: 'bfloat16',
  }
}

/** Writes a mixture as `makeModel` writes a Llama: 1.2 GB a block. Experts differ in strength. */
export function makeMixture(home: string, { blocks, vocabulary }: MixtureShape): Promise<string> {
  const { hidden, width, experts, heads, keyValueHeads, headSize } = mixture
  const tensors: TensorToWrite[] = []
  const add = (name: string, shape: readonly number[], deviation?: number) => {
    const seed = tensors.length
    const count = shape.reduce((a, b) => a * b, 1)
    const bytes = () => (deviation === undefined ? encode(new Float32Array(count).fill(1), 'BF16') : drawHalves(seed, count, deviation))
    tensors.push({ name: `${name}.weight`, dtype: 'BF16', shape, bytes })
  }
  const scale = 1 / Math.sqrt(hidden)
  add('model.embed_tokens', [vocabulary, hidden], 0.05)
  for (let block = 0; block < blocks; block++) {
    const name = `model.layers.${block}`
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`${name}.${norm}`, [hidden])
    for (const norm of ['q_norm', 'k_norm']) add(`${name}.self_attn.${norm}`, [headSize])
    add(`${name}.self_attn.q_proj`, [heads * headSize, hidden], scale)
    for (const own of ['k_proj', 'v_proj']) add(`${name}.self_attn.${own}`, [keyValueHeads * headSize, hidden], scale)
    add(`${name}.self_attn.o_proj`, [hidden, heads * headSize], 0.1 * scale)
    add(`${name}.mlp.gate`, [experts, hidden], scale)
    for (let expert = 0; expert < experts; expert++) {
      const strength = 0.1 + 0.9 * (new Draws(1000 * block + expert).integer() / 2 ** 32)
      for (const own of ['gate_proj', 'up_proj']) add(`${name}.mlp.experts.${expert}.${own}`, [width, hidden], scale)
      add(`${name}.mlp.experts.${expert}.down_proj`, [hidden, width], strength * scale)
    }
  }
  add('model.norm', [hidden])
  return writeOnce(join(home, `mixture-${blocks}-${vocabulary}`), mixtureConfig({ blocks, vocabulary }), tensors)
}

/** Seeded bfloat16 values, two for each draw from a table of 65,536. */
function drawHalves(seed: number, count: number, deviation: number): Uint8Array {
  const draws = new Draws(seed)
  const table = new Uint16Array(encode(draws.fill(new Float32Array(65536), deviation), 'BF16').buffer)
  const halves = new Uint16Array(count)
  for (let i = 0; i < count; i += 2) {
    const draw = draws.integer()
    halves[i] = table[draw & 0xffff] as number
    halves[i + 1] = table[draw >>> 16] as number
  }
  return new Uint8Array(halves.buffer)
}

/** Seeded windows of token ids. */
export function makeWindows(count: number, tokens: number, vocabulary: number): number[][] {
  const draws = new Draws(77)
  return Array.from({ length: count }, () => Array.from({ length: tokens }, () => draws.integer() % vocabulary))
}
