import type { BlockTensors, DecoderSpec } from '#engine/architectures/spec.ts'

/** Norms that a block may have. */
export type NormRole = 'attentionNorm' | 'queryNorm' | 'keyNorm' | 'attentionOutputNorm' | 'mlpNorm' | 'mlpOutputNorm'

/** One architecture of llama.cpp as a place for weights: what it calls them, and what it cannot compute. */
export interface Dialect {
  /** `general.architecture` */
  readonly architecture: string
  /** Norms of a block by their role here. */
  readonly norms: Readonly<Partial<Record<NormRole & keyof BlockTensors, string>>>
  /** Whether the rows of each query and key head are interleaved for its rotary embedding. */
  readonly interleaved: boolean
  readonly joinsQueryKeyValue: boolean
  readonly joinsGateUp: boolean
  /** Whether every block must have an attention head, and every file its own head matrix. */
  readonly needsAttention: boolean
  readonly needsHead: boolean
  /** Whether it applies factors per rotary frequency that a file brings as a tensor. */
  readonly takesFactors: boolean
  /** How sliding windows are computed: as a list says for each block, or not at all. */
  readonly windows: 'list' | 'none'
  /** Whether it multiplies embeddings, scores, outputs and logits by numbers in the file (Granite). */
  readonly scales: boolean
  /** Whether blocks must keep their places because it counts them. */
  readonly keepsPlaces: boolean
  /** Why it cannot run a model of this kind, or undefined when it can. */
  problem(spec: DecoderSpec): string | undefined
}

type Check = (spec: DecoderSpec) => string | undefined

const before = { attentionNorm: 'attn_norm', mlpNorm: 'ffn_norm' }
const behind = { attentionOutputNorm: 'post_attention_norm', mlpOutputNorm: 'post_ffw_norm' }
const inner = { queryNorm: 'attn_q_norm', keyNorm: 'attn_k_norm' }

const silu: Check = ({ activation }) =>
  activation === 'silu' ? undefined : `llama.cpp computes this family with SiLU, this model has ${activation}`

const wholeRotary: Check = ({ headSize, rotary }) =>
  rotary(0).size === headSize ? undefined : `llama.cpp turns whole heads here, this model only ${rotary(0).size} of ${headSize} values`

const usualHeads: Check = ({ headSize, heads, hidden }) =>
  headSize * heads === hidden ? undefined : `llama.cpp takes heads of ${hidden / heads} values here, this model's have ${headSize}`

/** Every fourth block is not turned, whatever the file says. */
const everyFourth: Check = ({ blocks, rotary }) =>
  blocks.every(
    (_, index) =>
      rotary(index)
        .frequencies(1)
        .inverse.every((value) => value === 0) ===
      ((index + 1) % 4 === 0),
  )
    ? undefined
    : 'llama.cpp leaves exactly every fourth block without positions, this model others'

/** The scale of scores that llama.cpp works out by itself; the largest Gemmas are known by their number of blocks. */
const gemmaScale =
  (largest: number): Check =>
  ({ blocks, headSize, heads, hidden, scoreScale }) => {
    const expected = 1 / Math.sqrt(blocks.length === largest ? hidden / heads : headSize)
    return Math.abs(scoreScale / expected - 1) < 1e-6
      ? undefined
      : `llama.cpp multiplies scores by ${expected.toPrecision(4)} here, this model by ${scoreScale.toPrecision(4)}`
  }

const all =
  (...checks: Check[]): Check =>
  (spec) =>
    checks.map((check) => check(spec)).find(Boolean)

const plain: Dialect = {
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

const llama: Dialect = { ...plain, architecture: 'llama', interleaved: true, takesFactors: true, problem: all(wholeRotary, silu) }

/** Blocks of their own sizes, attention may be missing from all but the first (Nemotron's DeciLM). */
const deci: Dialect = { ...llama, architecture: 'deci', needsAttention: false }

/** Blocks of their own sizes with norms on queries and keys; head and embedding are one, frequencies plain. */
const openelm: Dialect = {
  ...plain,
  architecture: 'openelm',
  norms: { ...before, ...inner },
  joinsQueryKeyValue: true,
  problem: (spec) => (spec.head.weight === spec.embedding ? silu(spec) : 'it has a head of its own'),
}

const gemma: Dialect = { ...plain, norms: { ...before, ...behind }, windows: 'list' }
const gemma3: Dialect = { ...gemma, architecture: 'gemma3', norms: { ...gemma.norms, ...inner }, problem: gemmaScale(62) }
const olmo: Dialect = { ...plain, architecture: 'olmo2', norms: { ...behind, ...inner }, windows: 'list' }

/** By family: its own architecture, and the one that states sizes block by block where there is one. */
export const dialects: Readonly<Record<string, { readonly own: Dialect; readonly perBlock?: Dialect }>> = {
  llama: { own: llama, perBlock: deci },
  mistral: { own: llama, perBlock: deci },
  qwen2: { own: { ...plain, architecture: 'qwen2' }, perBlock: deci },
  phi3: {
    own: {
      ...plain,
      architecture: 'phi3',
      joinsQueryKeyValue: true,
      joinsGateUp: true,
      takesFactors: true,
      problem: all(usualHeads, silu),
    },
    perBlock: deci,
  },
  phi: { own: { ...plain, architecture: 'phi2', needsHead: true, problem: usualHeads } },
  qwen3: { own: { ...plain, architecture: 'qwen3', norms: openelm.norms }, perBlock: openelm },
  smollm3: {
    own: { ...plain, architecture: 'smollm3', interleaved: true, keepsPlaces: true, problem: all(everyFourth, silu) },
  },
  gemma2: { own: { ...gemma, architecture: 'gemma2', problem: gemmaScale(46) } },
  gemma3: { own: gemma3 },
  gemma3_text: { own: gemma3 },
  olmo2: { own: olmo },
  olmo3: { own: olmo },
  granite: {
    own: { ...plain, architecture: 'granite', interleaved: true, takesFactors: true, scales: true, problem: all(wholeRotary, silu) },
  },
}
