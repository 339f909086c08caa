import type { Architecture } from '../common.ts'
import { type Dialect, inner, plain, silu } from '../dialect.ts'
import { readBiases, readLlamaLike } from './llama.ts'
import { readSwitchedWindows } from './qwen2.ts'

/** Blocks of different sizes with norms on queries and keys. Head and embedding are tied, and rotary frequencies are unscaled. */
const openelm: Dialect = {
  ...plain,
  architecture: 'openelm',
  norms: { ...plain.norms, ...inner },
  joinsQueryKeyValue: true,
  problem: (spec) => (spec.head.weight === spec.embedding ? silu(spec) : 'its head is not tied to the embedding'),
}

export const qwen3: Architecture = {
  modelType: 'qwen3',
  title: 'Qwen3',
  examples: 'Qwen3 0.6B to 32B, DeepSeek-R1-0528-Qwen3-8B',
  gguf: { own: { ...plain, architecture: 'qwen3', norms: openelm.norms }, perBlock: openelm },
  read: (config, layout) => readLlamaLike(config, layout, { ...readBiases(config), queryKeyNorm: 'head', ...readSwitchedWindows(config) }),
}
