import type { BlockTensors, DecoderSpec } from './spec.ts'

/** The roles of the norms that a block may have. */
export type NormRole = 'attentionNorm' | 'queryNorm' | 'keyNorm' | 'attentionOutputNorm' | 'mlpNorm' | 'mlpOutputNorm'

/** Reads the keys that a GGUF file has for its architecture. Throws if a value has another type. */
export interface GgufKeys {
  has(key: string): boolean
  number(key: string): number
  optionalNumber(key: string): number | undefined
  flag(key: string): boolean | undefined
  /** One boolean per block; undefined if there is no such list. */
  flags(key: string, count: number): readonly boolean[] | undefined
}

/** The sizes that a dialect computes its config entries from. */
export interface GgufSizes {
  readonly blocks: number
  readonly hidden: number
  readonly heads: number
  readonly headSize: number
  /** Rotated values of each head. */
  readonly rotary: number
  readonly queryBias: boolean
  readonly outputBias: boolean
  readonly queryNorm: boolean
  /** Neurons of each expert, if there are experts. */
  readonly expertWidth: number | undefined
}

/** One of llama.cpp's architectures: the names of a block's tensors in its GGUF files, and what it cannot compute. */
export interface Dialect {
  /** `general.architecture` */
  readonly architecture: string
  /** The family that its files are read as, if several families use the architecture. */
  readonly family?: string
  /** The names of a block's norms, by their role in the spec. */
  readonly norms: Readonly<Partial<Record<NormRole & keyof BlockTensors, string>>>
  /** Whether the rows of each query and key head are interleaved for its rotary embedding. */
  readonly interleaved: boolean
  readonly joinsQueryKeyValue: boolean
  readonly joinsGateUp: boolean
  /** Whether every block must have an attention head, and every file its own head matrix. */
  readonly needsAttention: boolean
  readonly needsHead: boolean
  /** Whether it applies a factor to each rotary frequency, from a tensor in the file. */
  readonly takesFactors: boolean
  /** How sliding windows are computed: from a list with an entry per block, or not at all. */
  readonly windows: 'list' | 'none'
  /** Whether it multiplies embeddings, scores, outputs and logits by factors in the file (Granite). */
  readonly scales: boolean
  /** The key for the width of experts, if blocks may be mixtures. */
  readonly expertWidth?: 'feed_forward_length' | 'expert_feed_forward_length'
  /** Whether the file gives the shared expert's width only as a number of experts of the common width. */
  readonly sharesWidth?: true
  /** Whether blocks must keep their positions, because llama.cpp derives their kinds from their numbers. */
  readonly keepsPlaces: boolean
  /** False if the family does not round the limits of the frequencies that YaRN blends, as llama.cpp does. */
  readonly wholeYarn?: false
  /** Whether files must state how many rotated dimensions belong to each direction of an image. */
  readonly rotarySections?: true
  /** Why the architecture cannot run this model, as a clause; undefined if it can. */
  problem(spec: DecoderSpec): string | undefined
  /** Whole numbers that its files need besides those in every file, by key. */
  keys?(spec: DecoderSpec): Record<string, number>
  /** Config entries for a model that is read from a file, besides those that every model gets. */
  config?(keys: GgufKeys, sizes: GgufSizes): Record<string, unknown>
}

/** The architectures that a family can use in GGUF: its own and, if there is one, an architecture that states sizes block by block. */
export interface GgufDialects {
  readonly own: Dialect
  readonly perBlock?: Dialect
}

export type Check = (spec: DecoderSpec) => string | undefined

const before = { attentionNorm: 'attn_norm', mlpNorm: 'ffn_norm' }
/** GGUF names of the norms after submodules. */
export const behind = { attentionOutputNorm: 'post_attention_norm', mlpOutputNorm: 'post_ffw_norm' }
/** GGUF names of the norms on queries and keys. */
export const inner = { queryNorm: 'attn_q_norm', keyNorm: 'attn_k_norm' }

export const silu: Check = ({ activation }) =>
  activation === 'silu' ? undefined : `llama.cpp computes this family with SiLU, but this model has ${activation}`

export const wholeRotary: Check = ({ headSize, rotary }) =>
  rotary(0).size === headSize
    ? undefined
    : `llama.cpp rotates whole heads here, but this model only ${rotary(0).size} of ${headSize} values`

export const usualHeads: Check = ({ headSize, heads, hidden }) =>
  headSize * heads === hidden ? undefined : `llama.cpp expects heads of ${hidden / heads} values here, but this model's have ${headSize}`

const denseBlocks: Check = ({ router }) => (router ? 'llama.cpp has no experts in this architecture' : undefined)

/** A check for architectures whose router always, or never, divides its weights by their sum. */
export const routes =
  (renormalised: boolean): Check =>
  ({ router }) =>
    router?.renormalised === renormalised
      ? undefined
      : `llama.cpp ${renormalised ? 'divides' : 'never divides'} the weights of chosen experts by their sum here, which this model does ${renormalised ? 'not' : ''}`.trim()

/** A check for architectures in which every block must be a mixture. */
export const allMixtures: Check = ({ blocks }) =>
  blocks.every(({ experts }) => experts !== undefined) ? undefined : 'llama.cpp has experts in every block here, but this model does not'

const hasMixtures = (keys: GgufKeys): boolean => (keys.optionalNumber('expert_count') ?? 0) > 0

/** Config entries for the number of experts, the number that a token uses, and their width. */
export const expertEntries = (
  keys: GgufKeys,
  { expertWidth }: GgufSizes,
  count: string,
  width = 'intermediate_size',
): Record<string, unknown> => ({
  [count]: keys.number('expert_count'),
  num_experts_per_tok: keys.number('expert_used_count'),
  [width]: expertWidth,
})

/** Combines checks: returns the first problem that any of them finds. */
export const all =
  (...checks: Check[]): Check =>
  (spec) =>
    checks.map((check) => check(spec)).find(Boolean)

/** Llama's blocks with separate projections and rows in transformers' order. */
export const plain: Dialect = {
  architecture: '',
  norms: before,
  interleaved: false,
  joinsQueryKeyValue: false,
  joinsGateUp: false,
  needsAttention: true,
  needsHead: false,
  takesFactors: false,
  windows: 'none',
  scales: false,
  keepsPlaces: false,
  problem: silu,
}

/** Llama itself. Files of Mistral have this architecture too. */
export const llamaDialect: Dialect = {
  ...plain,
  architecture: 'llama',
  family: 'llama',
  interleaved: true,
  takesFactors: true,
  expertWidth: 'feed_forward_length',
  problem: all(wholeRotary, silu),
  config: (keys, sizes) => (hasMixtures(keys) ? { model_type: 'mixtral', ...expertEntries(keys, sizes, 'num_local_experts') } : {}),
}

/** Blocks of different sizes. All blocks except the first may lack attention (Nemotron's DeciLM). */
export const deci: Dialect = {
  ...llamaDialect,
  architecture: 'deci',
  problem: all(denseBlocks, wholeRotary, silu),
  needsAttention: false,
  // Llama-like blocks with biases only on queries, keys and values are Qwen2's.
  config: (_, { queryBias, outputBias }) => (queryBias && !outputBias ? { model_type: 'qwen2' } : {}),
}

/** The kind of attention of each block: as the file lists them, else a window in all blocks except every `pattern`-th. */
export function windowTypes(keys: GgufKeys, blocks: number, pattern: number): string[] {
  const listed = keys.flags('attention.sliding_window_pattern', blocks)
  const every = listed ? pattern : (keys.optionalNumber('attention.sliding_window_pattern') ?? pattern)
  const slides = (index: number) => (listed ? listed[index] : (index + 1) % every !== 0)
  return Array.from({ length: blocks }, (_, index) => (slides(index) ? 'sliding_attention' : 'full_attention'))
}
