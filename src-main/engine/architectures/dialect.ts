import type { BlockTensors, DecoderSpec } from './spec.ts'

/** Norms that a block may have. */
export type NormRole = 'attentionNorm' | 'queryNorm' | 'keyNorm' | 'attentionOutputNorm' | 'mlpNorm' | 'mlpOutputNorm'

/** The keys of a GGUF file for its architecture. Throws for a value of another type. */
export interface GgufKeys {
  has(key: string): boolean
  number(key: string): number
  optionalNumber(key: string): number | undefined
  flag(key: string): boolean | undefined
  /** One boolean per block; undefined if there is no such list. */
  flags(key: string, count: number): readonly boolean[] | undefined
}

/** What further config entries are computed from. */
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

/** One architecture of llama.cpp: the names of a block's tensors in its GGUF files, and what it cannot compute. */
export interface Dialect {
  /** `general.architecture` */
  readonly architecture: string
  /** The family of its files, if several families use it. */
  readonly family?: string
  /** Norms of a block by their role in the spec. */
  readonly norms: Readonly<Partial<Record<NormRole & keyof BlockTensors, string>>>
  /** Whether the rows of each query and key head are interleaved for its rotary embedding. */
  readonly interleaved: boolean
  readonly joinsQueryKeyValue: boolean
  readonly joinsGateUp: boolean
  /** Whether every block must have an attention head, and every file its own head matrix. */
  readonly needsAttention: boolean
  readonly needsHead: boolean
  /** Whether it applies factors per rotary frequency from a tensor of the file. */
  readonly takesFactors: boolean
  /** How sliding windows are computed: from a list with an entry per block, or not at all. */
  readonly windows: 'list' | 'none'
  /** Whether it multiplies embeddings, scores, outputs and logits by numbers in the file (Granite). */
  readonly scales: boolean
  /** The key of an expert's width, if its blocks may be mixtures. */
  readonly expertWidth?: 'feed_forward_length' | 'expert_feed_forward_length'
  /** Whether a shared expert's width is tied to a number of experts. */
  readonly sharesWidth?: true
  /** Whether blocks must keep their places, because it counts them. */
  readonly keepsPlaces: boolean
  /** False if its models do not round the range of frequencies that YaRN blends. */
  readonly wholeYarn?: false
  /** Whether files must divide the rotated dimensions among the directions of an image. */
  readonly rotarySections?: true
  /** Why it cannot run a model of this kind; undefined if it can. */
  problem(spec: DecoderSpec): string | undefined
  /** Whole numbers that it needs besides those that every file has, by key. */
  keys?(spec: DecoderSpec): Record<string, number>
  /** Entries of the config of a file's model besides those that every file has. */
  config?(keys: GgufKeys, sizes: GgufSizes): Record<string, unknown>
}

/** A family in GGUF: its own architecture, and one that states sizes block by block, if there is one. */
export interface GgufDialects {
  readonly own: Dialect
  readonly perBlock?: Dialect
}

type Check = (spec: DecoderSpec) => string | undefined

const before = { attentionNorm: 'attn_norm', mlpNorm: 'ffn_norm' }
/** GGUF names of the norms after submodules. */
export const behind = { attentionOutputNorm: 'post_attention_norm', mlpOutputNorm: 'post_ffw_norm' }
/** GGUF names of the norms on queries and keys. */
export const inner = { queryNorm: 'attn_q_norm', keyNorm: 'attn_k_norm' }

export const silu: Check = ({ activation }) =>
  activation === 'silu' ? undefined : `llama.cpp computes this family with SiLU, this model has ${activation}`

export const wholeRotary: Check = ({ headSize, rotary }) =>
  rotary(0).size === headSize ? undefined : `llama.cpp turns whole heads here, this model only ${rotary(0).size} of ${headSize} values`

export const usualHeads: Check = ({ headSize, heads, hidden }) =>
  headSize * heads === hidden ? undefined : `llama.cpp takes heads of ${hidden / heads} values here, this model's have ${headSize}`

const denseBlocks: Check = ({ router }) => (router ? 'llama.cpp has no experts here' : undefined)

/** For architectures whose router always, or never, divides its weights by their sum. */
export const routes =
  (renormalised: boolean): Check =>
  ({ router }) =>
    router?.renormalised === renormalised
      ? undefined
      : `llama.cpp ${renormalised ? 'divides' : 'never divides'} the weights of chosen experts by their sum here, which this model does ${renormalised ? 'not' : ''}`.trim()

/** For architectures in which every block is a mixture. */
export const allMixtures: Check = ({ blocks }) =>
  blocks.every(({ experts }) => experts !== undefined) ? undefined : 'llama.cpp has experts in every block here, but this model does not'

const hasMixtures = (keys: GgufKeys): boolean => (keys.optionalNumber('expert_count') ?? 0) > 0

/** Config entries for the number of experts, how many a token uses, and their width. */
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

/** The first problem that any of the checks finds. */
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

/** Blocks of different sizes; attention may be missing from all except the first (Nemotron's DeciLM). */
export const deci: Dialect = {
  ...llamaDialect,
  architecture: 'deci',
  problem: all(denseBlocks, wholeRotary, silu),
  needsAttention: false,
  // Blocks of Llama's kind with biases only on queries, keys and values are Qwen2's.
  config: (_, { queryBias, outputBias }) => (queryBias && !outputBias ? { model_type: 'qwen2' } : {}),
}

/** Kinds of attention: as the file lists them, else all except every `pattern`-th block within a window. */
export function windowTypes(keys: GgufKeys, blocks: number, pattern: number): string[] {
  const listed = keys.flags('attention.sliding_window_pattern', blocks)
  const every = listed ? pattern : (keys.optionalNumber('attention.sliding_window_pattern') ?? pattern)
  const slides = (index: number) => (listed ? listed[index] : (index + 1) % every !== 0)
  return Array.from({ length: blocks }, (_, index) => (slides(index) ? 'sliding_attention' : 'full_attention'))
}
