import { z } from 'zod'
import { usedData } from '../data/used-data.ts'
import { id, name } from '../identifiers.ts'

/** A number with one standard error. The error is null if the sample does not give one. */
const estimate = z.object({ value: z.number(), error: z.number().nullable() })

/**
 * The numbers of llama.cpp's `llama-perplexity --kl-divergence`, in nats and probabilities, over all tokens except each window's first
 * (llama.cpp uses the second half of each window). `change` is the change in probability of the actual next token.
 */
const divergenceNumbers = z.object({
  mean: estimate,
  median: estimate,
  p90: estimate,
  p95: estimate,
  p99: estimate,
  p999: estimate,
  largest: z.number(),
  sameTop: estimate,
  changeMean: estimate,
  changeRms: estimate,
  perplexity: estimate,
  perplexityRatio: estimate,
})

/** Tokens of one kind, script or eighth of a window, and how far a run is from the dense model on them. */
const tokenGroup = z.object({
  by: z.enum(['kind', 'script', 'position']),
  group: z.string(),
  tokens: z.number().int(),
  divergence: estimate,
  sameTop: estimate,
  lossChange: estimate,
})

/** Means over tokens: |x - dense| / |dense|, and the cosine with the dense model's vector, null if there is nothing to compare. */
const distance = z.object({ error: z.number(), cosine: z.number().nullable() })

/** Error after one block: in the stream, and in what its submodules add to the stream. */
const blockDistance = z.object({ stream: distance, attention: distance.nullable(), mlp: distance.nullable() })

/** A token where a run is far from the dense model, with its position and the text before it. */
const worstToken = z.object({
  page: z.number().int(),
  /** Index into the page's lists. */
  at: z.number().int(),
  text: z.string(),
  before: z.string(),
  divergence: z.number(),
  lossChange: z.number(),
  expected: z.string(),
  likeliest: z.string(),
})

export const inspectedRun = z.object({ id, name, method: z.string(), reached: z.number().nullable() })

export const divergenceOfRun = z.object({
  run: inspectedRun,
  numbers: divergenceNumbers,
  groups: z.array(tokenGroup),
  /** Null if the run's stream has another basis, as after SliceGPT. */
  blocks: z.array(blockDistance).nullable(),
  worst: z.array(worstToken),
})

/** Totals over all pages of tokens. The pages themselves are results of steps; the call `runs.tokens` returns them. */
export const divergence = z.object({
  data: usedData,
  tokens: z.number().int(),
  /** Number of tokens per page. */
  pages: z.array(z.number().int()),
  dense: z.object({ perplexity: estimate }),
  runs: z.array(divergenceOfRun),
})

const numbers = z.array(z.number())
/** The likeliest tokens after each position (`alternatives` per token, flattened) with their probabilities. */
const distribution = z.object({ loss: numbers, top: z.array(z.number().int()), probability: numbers })

/**
 * Tokens of some windows, by column. The first token of a window has no prediction, so its numbers are 0. `pieces` has the text of each
 * token in `top`. `kinds` are indices into `tokenKinds` (in `token-kinds.ts`), `scripts` are names.
 */
export const tokenPage = z.object({
  page: z.number().int(),
  windows: z.array(z.object({ window: z.number().int(), tokens: z.number().int() })),
  alternatives: z.number().int(),
  texts: z.array(z.string()),
  kinds: z.array(z.number().int()),
  scripts: z.array(z.string()),
  pieces: z.record(z.string(), z.string()),
  dense: distribution,
  runs: z.array(distribution.extend({ divergence: numbers, change: numbers })),
  /** Sums over tokens, by run and block; null for a run whose stream has another basis. */
  distances: z.array(z.array(blockDistance).nullable()),
})

export type TokenGroup = z.infer<typeof tokenGroup>
export type Distance = z.infer<typeof distance>
export type BlockDistance = z.infer<typeof blockDistance>
export type WorstToken = z.infer<typeof worstToken>
export type InspectedRun = z.infer<typeof inspectedRun>
export type DivergenceOfRun = z.infer<typeof divergenceOfRun>
export type Divergence = z.infer<typeof divergence>
export type TokenPage = z.infer<typeof tokenPage>
