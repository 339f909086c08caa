import type { Metadata } from './metadata.ts'

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
  /** What the file's norms have that the family's own do not: Gemma multiplies by 1 + w, llama.cpp by what is stored. */
  readonly normOffset?: number
  /** Entries of the config besides the usual ones. */
  config?(metadata: Metadata, sizes: GgufSizes): Record<string, unknown>
}

/** What the further entries of a config are worked out from. */
export interface GgufSizes {
  readonly blocks: number
  readonly hidden: number
  readonly heads: number
  readonly headSize: number
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

const behind = { post_attention_norm: 'post_attention_layernorm', post_ffw_norm: 'post_feedforward_layernorm' }
const { attn_norm: _none, ffn_norm: _neither, ...withoutNorms } = separate

/** What Gemma 2 and 3 share. llama.cpp works the scale of scores out: the largest model of each is known by its number of blocks. */
function gemmaConfig(metadata: Metadata, { blocks, hidden, heads, headSize }: GgufSizes, largest: number, pattern: number) {
  const caps = { attn_logit_softcapping: metadata.optionalNumber('attn_logit_softcapping') ?? null }
  return {
    hidden_activation: 'gelu_pytorch_tanh',
    query_pre_attn_scalar: blocks === largest ? hidden / heads : headSize,
    ...caps,
    final_logit_softcapping: metadata.optionalNumber('final_logit_softcapping') ?? null,
    layer_types: windowTypes(metadata, blocks, pattern),
  }
}

/** Kinds of attention: as the file lists them, else all but every `pattern`-th within a window. */
function windowTypes(metadata: Metadata, blocks: number, pattern: number): string[] {
  const listed = metadata.flags('attention.sliding_window_pattern', blocks)
  const every = listed ? pattern : (metadata.optionalNumber('attention.sliding_window_pattern') ?? pattern)
  const slides = (index: number) => (listed ? listed[index] : (index + 1) % every !== 0)
  return Array.from({ length: blocks }, (_, index) => (slides(index) ? 'sliding_attention' : 'full_attention'))
}

const gemma = { interleaved: false, normOffset: 1, parts: { ...separate, ...behind, ffn_norm: 'pre_feedforward_layernorm' } }

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
  qwen3: { modelType: 'qwen3', interleaved: false, parts: { ...separate, ...headNorms } },
  smollm3: { modelType: 'smollm3', interleaved: true, parts: separate },
  gemma2: {
    ...gemma,
    modelType: 'gemma2',
    config: (metadata, sizes) => gemmaConfig(metadata, sizes, 46, 2),
  },
  gemma3: {
    ...gemma,
    modelType: 'gemma3_text',
    parts: { ...gemma.parts, ...headNorms },
    config: (metadata, sizes) => ({
      ...gemmaConfig(metadata, sizes, 62, 6),
      rope_local_base_freq: metadata.optionalNumber('rope.freq_base_swa') ?? 10000,
    }),
  },
  // A file of OLMo 3 calls itself olmo2 and has windows.
  olmo2: {
    modelType: 'olmo2',
    interleaved: false,
    parts: { ...withoutNorms, ...behind, ...headNorms },
    config: (metadata, { blocks }) =>
      metadata.has('attention.sliding_window') ? { model_type: 'olmo3', layer_types: windowTypes(metadata, blocks, 4) } : {},
  },
  granite: {
    modelType: 'granite',
    interleaved: true,
    parts: separate,
    config: (metadata) => ({
      embedding_multiplier: metadata.optionalNumber('embedding_scale') ?? 1,
      residual_multiplier: metadata.optionalNumber('residual_scale') ?? 1,
      attention_multiplier: metadata.number('attention.scale'),
      logits_scaling: metadata.optionalNumber('logit_scale') ?? 1,
    }),
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
