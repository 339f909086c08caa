import { at } from '#contract/at.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import type { MetadataEntries } from '#engine/checkpoint/gguf/write-gguf.ts'
import { sourceOf } from '../packing.ts'
import { type GgufTarget, isMixture, sharedWidth } from './target.ts'

/** The sizes that llama.cpp builds a model from: numbers if all blocks are equal, else lists with an entry per block. */
export function modelMetadata(spec: DecoderSpec, target: GgufTarget, contextLength: number): MetadataEntries {
  const { dialect, blocks, perBlock, heads, widths } = target
  const metadata: MetadataEntries = new Map()
  const key = (name: string) => `${dialect.architecture}.${name}`
  const integer = (name: string, value: number) => metadata.set(key(name), { kind: 'integer', value })
  const sizes = (name: string, values: readonly number[]) => {
    if (perBlock) metadata.set(key(name), { kind: 'integers', value: values })
    else integer(name, at(values, 0))
  }
  integer('block_count', blocks.length)
  integer('context_length', contextLength)
  integer('embedding_length', spec.hidden)
  integer('vocab_size', spec.vocabulary)
  const dense = blocks.findIndex((block) => isMixture(spec, block))
  sizes('feed_forward_length', dense > 0 ? widths.slice(0, dense) : widths)
  for (const [name, value] of expertMetadata(spec, target, dense)) metadata.set(key(name), value)
  sizes(
    'attention.head_count',
    heads.map(({ query }) => query),
  )
  sizes(
    'attention.head_count_kv',
    heads.map(({ keyValue }) => keyValue),
  )
  // Ollama derives the head size from block 0's heads unless these are present.
  integer('attention.key_length', spec.headSize)
  integer('attention.value_length', spec.headSize)
  const epsilon = spec.norm.kind === 'rms' ? 'attention.layer_norm_rms_epsilon' : 'attention.layer_norm_epsilon'
  metadata.set(key(epsilon), { kind: 'float', value: spec.norm.epsilon })
  for (const [name, value] of computedWith(spec, target)) if (value !== undefined) metadata.set(key(name), { kind: 'float', value })
  for (const [name, value] of Object.entries(dialect.keys?.(spec) ?? {})) integer(name, value)
  for (const [name, value] of windowMetadata(spec, target)) metadata.set(key(name), value)
  return metadata
}

/** The number of experts, their width and how a router chooses. `first` is the first block with a mixture. */
function expertMetadata(spec: DecoderSpec, { dialect, blocks, widths, experts }: GgufTarget, first: number): MetadataEntries {
  const { router } = spec
  const { mixture } = first < 0 ? {} : spec.block(sourceOf(at(blocks, first)))
  if (!router || !mixture || experts === undefined) return new Map()
  const width = at(widths, first)
  const shared = sharedWidth(dialect, mixture, width)
  const metadata: MetadataEntries = new Map([
    ['expert_weights_norm', { kind: 'flag', value: router.renormalised }],
    ['expert_weights_scale', { kind: 'float', value: router.scale ?? 1 }],
  ])
  const integer = (name: string, value: number) => metadata.set(name, { kind: 'integer', value })
  integer('expert_count', experts)
  integer('expert_used_count', router.chosen)
  integer('expert_feed_forward_length', width)
  integer('expert_gating_func', router.scores === 'sigmoid' ? 2 : 1)
  if (first > 0) integer('leading_dense_block_count', first)
  if (shared > 0) integer('expert_shared_count', dialect.sharesWidth ? shared / width : 1)
  if (shared > 0) integer('expert_shared_feed_forward_length', shared)
  if (router.groups) integer('expert_group_count', router.groups.count)
  if (router.groups) integer('expert_group_used_count', router.groups.open)
  return metadata
}

/** Factors and limits that a family's blocks compute with, if the architecture reads them. */
function computedWith(spec: DecoderSpec, { dialect }: GgufTarget): [string, number | undefined][] {
  const caps: [string, number | undefined][] = [
    ['attn_logit_softcapping', spec.scoreCap],
    ['final_logit_softcapping', spec.logitCap],
  ]
  if (!dialect.scales) return caps
  return [
    ...caps,
    ['embedding_scale', spec.embeddingScale ?? 1],
    ['residual_scale', spec.residualScale ?? 1],
    ['logit_scale', 1 / (spec.logitScale ?? 1)],
    ['attention.scale', spec.scoreScale],
  ]
}

/** Which of the written blocks attend within a window, and its length. */
function windowMetadata(spec: DecoderSpec, { dialect, blocks }: GgufTarget): MetadataEntries {
  const windows = blocks.map((block) => spec.slidingWindow(sourceOf(block)))
  const window = windows.find((value) => value !== undefined)
  if (dialect.windows === 'none' || window === undefined) return new Map()
  return new Map([
    ['attention.sliding_window', { kind: 'integer', value: window }],
    ['attention.sliding_window_pattern', { kind: 'flags', value: windows.map((value) => value !== undefined) }],
  ])
}

/**
 * The context length to write: what the model was trained for, extended as its rotary scaling says. If the architecture does not compute
 * sliding windows, it is at most the length of the shortest window, because answers would differ beyond it.
 */
export function contextLength(
  spec: DecoderSpec,
  target: GgufTarget,
  stretch: number,
): { readonly length: number; readonly capped: boolean } {
  const whole = Math.round(spec.contextLength * stretch)
  if (target.dialect.windows === 'list') return { length: whole, capped: false }
  const windows = target.blocks.filter(({ attention }) => attention !== undefined).map((block) => spec.slidingWindow(sourceOf(block)))
  const shortest = Math.min(whole, ...windows.filter((window) => window !== undefined))
  return { length: shortest, capped: shortest < whole }
}
