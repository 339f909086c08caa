/** How a GGUF architecture names things, against the names that transformers uses and this program works with. */
export interface GgufFamily {
  /** `model_type` of the config. */
  readonly modelType: string
  /** Whether query and key rows are interleaved for llama.cpp's rotary embedding, so that they must be put back. */
  readonly interleaved: boolean
  /** Names of a block's parts. One that stands for several lies below each other in the file, queries first. */
  readonly parts: Readonly<Record<string, string | readonly string[]>>
  /** Names outside of the blocks, where they are not the usual ones. */
  readonly outer?: Readonly<Record<string, string>>
}

const common = {
  attn_norm: 'input_layernorm',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_down: 'mlp.down_proj',
}

const separate = {
  ...common,
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
}

const queryKeyValue = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj']
const headNorms = { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' }

/** By `general.architecture`. Mistral's files call themselves llama, and are one; deci's blocks are Llama's, each of its own sizes. */
export const families: Readonly<Record<string, GgufFamily>> = {
  llama: { modelType: 'llama', interleaved: true, parts: separate },
  qwen2: { modelType: 'qwen2', interleaved: false, parts: separate },
  deci: { modelType: 'llama', interleaved: true, parts: separate },
  openelm: {
    modelType: 'qwen3',
    interleaved: false,
    parts: { ...common, ...headNorms, attn_qkv: queryKeyValue, ffn_gate: 'mlp.gate_proj', ffn_up: 'mlp.up_proj' },
  },
  phi2: {
    modelType: 'phi',
    interleaved: false,
    parts: {
      attn_norm: 'input_layernorm',
      attn_q: 'self_attn.q_proj',
      attn_k: 'self_attn.k_proj',
      attn_v: 'self_attn.v_proj',
      attn_qkv: queryKeyValue,
      attn_output: 'self_attn.dense',
      ffn_up: 'mlp.fc1',
      ffn_down: 'mlp.fc2',
    },
    outer: { token_embd: 'model.embed_tokens', output_norm: 'model.final_layernorm', output: 'lm_head' },
  },
  phi3: { modelType: 'phi3', interleaved: false, parts: { ...common, attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' } },
}

const outer: Readonly<Record<string, string>> = { token_embd: 'model.embed_tokens', output_norm: 'model.norm', output: 'lm_head' }

/** The names that transformers gives what a tensor holds, or undefined for one that is no weight, such as rotary factors. */
export function translateName(family: GgufFamily, name: string): readonly string[] | undefined {
  const [, block, part, kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? []
  if (part === undefined) return undefined
  const names: Readonly<Record<string, string | readonly string[]>> = block === undefined ? (family.outer ?? outer) : family.parts
  const found = Object.hasOwn(names, part) ? names[part] : undefined
  const prefix = block === undefined ? '' : `model.layers.${Number(block)}.`
  return found === undefined ? undefined : [found].flat().map((own) => `${prefix}${own}.${kind}`)
}
