/** How a GGUF architecture names things, against the names that transformers uses and this program works with. */
export interface GgufFamily {
  /** `model_type` of the config. */
  readonly modelType: string
  /** Whether query and key rows are interleaved for llama.cpp's rotary embedding, so that they must be put back. */
  readonly interleaved: boolean
  /** Names of a block's parts. */
  readonly parts: Readonly<Record<string, string>>
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

/** By `general.architecture`. Mistral's files call themselves llama, and are one. */
export const families: Readonly<Record<string, GgufFamily>> = {
  llama: { modelType: 'llama', interleaved: true, parts: separate },
  qwen2: { modelType: 'qwen2', interleaved: false, parts: separate },
  phi3: { modelType: 'phi3', interleaved: false, parts: { ...common, attn_qkv: 'self_attn.qkv_proj', ffn_up: 'mlp.gate_up_proj' } },
}

const outer: Readonly<Record<string, string>> = { token_embd: 'model.embed_tokens', output_norm: 'model.norm', output: 'lm_head' }

/** The name that transformers gives a tensor, or undefined for one that is no weight, such as rotary factors. */
export function translateName(family: GgufFamily, name: string): string | undefined {
  const [, block, part, kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? []
  if (part === undefined) return undefined
  if (block === undefined) return Object.hasOwn(outer, part) ? `${outer[part]}.${kind}` : undefined
  return Object.hasOwn(family.parts, part) ? `model.layers.${Number(block)}.${family.parts[part]}.${kind}` : undefined
}
