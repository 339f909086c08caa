import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { mixedBytes } from '#contract/titles.ts'
import { version } from '#contract/version.ts'
import { hasOffset, headsAreColumns, isDecay, rangesInFile } from '#engine/architectures/delta-names.ts'
import type { Dialect } from '#engine/architectures/dialect.ts'
import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'
import { type Checkpoint, columnCount, type Rows, rowCount } from '#engine/checkpoint/checkpoint.ts'
import { countNonFinite, toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type BlockType, blockTypeNamed, bytesOfValues, encodeRows } from '#engine/checkpoint/gguf/value-blocks.ts'
import { type GgufTensorToWrite, type MetadataEntries, storedBytes } from '#engine/checkpoint/gguf/write-gguf.ts'
import type { TensorToWrite } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import type { Planned, PrunedTensor } from '#engine/export/pieces.ts'
import { blocksText, missingParts, prunedTensors, sourceOf, type TensorNames, zerosText } from '#engine/export/pruned-tensors.ts'
import { specWithPlan } from '#engine/model/views/slice.ts'
import type { Rotary } from '#engine/tensor/rotary.ts'
import { type Importances, importancesByName } from './importances.ts'
import { chosenType, findMix, fitType, type Mix, type MixPart, mixes, rowMultiple, weighsErrors } from './mix.ts'
import { chooseTarget, type GgufTarget, isMixture, sharedWidth } from './target.ts'

/** The layout of a GGUF file, before any weight is read or written. */
export interface GgufFile {
  readonly architecture: string
  /** Sizes and rotary embedding. The model's name and its tokenizer are added when the file is written. */
  readonly metadata: MetadataEntries
  readonly tensors: readonly GgufTensorToWrite[]
  /** Importances of the columns of its tensors, by name, if errors are weighted by them. */
  readonly weighed: ReadonlyMap<string, Float32Array>
  readonly bytes: number
  /** The number of blocks that keep keys and values. */
  readonly attentions: number
  /** Notes for users: which parts are stored as zeros, and where the context ends. */
  readonly notes: readonly string[]
}

/** The tensors of a pruned model under llama.cpp's names, before they have types. Padding depends on the main type of the mix. */
export function ggufSources(planned: Planned, mix: Mix): { readonly target: GgufTarget; readonly tensors: readonly PrunedTensor[] } {
  const { spec } = planned.model
  const { blocks: left } = specWithPlan(spec, planned.plan)
  const target = chooseTarget(spec, left, paddedWidths(spec, chooseTarget(spec, left), mix))
  const { blocks, names } = target
  const width = (position: number) => target.widths[position] as number
  return { target, tensors: prunedTensors(planned, { removed: 'zeroed', width, experts: target.experts, blocks, names }) }
}

/**
 * Lays a pruned model out as a GGUF file of a type. With mixed types, matrices have those of the plan. Throws `infeasible` for what llama.cpp
 * cannot run, before any weight is read.
 */
export function layOutGguf(planned: Planned, type: string, importances?: Importances): GgufFile {
  const { checkpoint, spec } = planned.model
  if (planned.plan.slice || spec.sliceWidth !== undefined) throw refuseSliced()
  const { blocks: left, vocabulary } = specWithPlan(spec, planned.plan)
  const mix = findMix(type)
  if (mix.asStored && !checkpoint.readStored) throw refuseFolder()
  refuseShortRows(spec, mix, type)
  const { target, tensors: sources } = ggufSources(planned, mix)
  const types = mixedBytes(type) === undefined ? undefined : planned.plan.types
  const pruned = types?.[target.names.head.weight] === asEmbedding ? withSharedHead(sources, target.names) : sources
  const { kind, section, originalLength } = rotarySection(checkpoint.config)
  const factor = typeof section.factor === 'number' ? section.factor : 1
  const { length, capped } = contextLength(spec, target, kind === 'yarn' && originalLength === spec.contextLength ? factor : 1)
  const metadata: MetadataEntries = new Map([
    ['general.architecture', { kind: 'text', value: target.dialect.architecture }],
    ['general.type', { kind: 'text', value: 'model' }],
    ['general.file_type', { kind: 'integer', value: mix.asStored ? fileTypeOf(checkpoint) : mix.fileType }],
    ['general.quantization_version', { kind: 'integer', value: 2 }],
    ['espalier.version', { kind: 'text', value: version }],
    ...modelMetadata({ ...spec, vocabulary }, target, length),
  ])
  const rotary = writeRotary(spec, checkpoint.config, target.dialect, metadata)
  noteZeros(target, left, metadata)
  const weighed = importances && weighsErrors(mix) ? importancesByName(pruned, target, importances) : new Map<string, Float32Array>()
  const tensors = [...rotary, ...ggufTensors(spec, target, mix, pruned, weighed, types)]
  return {
    architecture: target.dialect.architecture,
    metadata,
    tensors,
    weighed,
    bytes: tensors.reduce((total, tensor) => total + storedBytes(tensor), 0),
    attentions: target.heads.filter(({ keyValue }) => keyValue > 0).length,
    notes: [
      ...describe(spec, target, length, capped),
      ...(kind === 'yarn' && section.truncate === false ? [roundedYarn] : []),
      ...(spec.hidden % rowMultiple(mix) === 0 || mixedBytes(type) !== undefined
        ? []
        : [
            `A little larger than usual: rows of this model have ${spec.hidden} values, which do not fill groups of ${rowMultiple(mix)}, so a similar type is used.`,
          ]),
    ],
  }
}

/** The type of a head in a plan whose file stores it as the embedding, once for both. */
export const asEmbedding = 'embedding'

/** Stores the head's matrix for both, under the embedding's name: llama.cpp then uses it as the head, too. */
function withSharedHead(tensors: readonly PrunedTensor[], { embedding, head: { weight } }: TensorNames): PrunedTensor[] {
  const head = tensors.find(({ name }) => name === weight)
  return tensors.flatMap((tensor) => (tensor === head ? [] : [head && tensor.name === embedding ? { ...head, name: embedding } : tensor]))
}

function paddedWidths(spec: DecoderSpec, { widths }: GgufTarget, mix: Mix): number[] {
  const first = spec.block(0)
  const gated = first.mixture !== undefined || first.gate !== undefined
  return widths.map((width) => paddedWidth(width, spec.hidden, gated, mix))
}

const roundedYarn =
  'llama.cpp rounds the range of frequencies that YaRN blends, which this model does not: its answers differ a little from ours.'

function refuseSliced(): EspalierError {
  return new EspalierError(
    'infeasible',
    'llama.cpp does not support the shortcuts of a sliced model, so the format gguf cannot hold it. Choose exact.',
  )
}

function refuseFolder(): EspalierError {
  return new EspalierError(
    'infeasible',
    'The GGUF type SOURCE keeps the types of a GGUF file or of experts in MXFP4, but this model is not a GGUF file and has no such experts. Choose F16, or another type.',
  )
}

/** The number of the mix whose main type makes up most bytes of the source file; F16 if that is not quantised. */
function fileTypeOf({ quantised }: Checkpoint): number {
  const [most] = quantised?.types ?? []
  return Object.values(mixes).find(({ main }) => main === most)?.fileType ?? 1
}

function refuseShortRows(spec: DecoderSpec, mix: Mix, type: string): void {
  if (rowMultiple(mix) === 1 || spec.hidden % 32 === 0) return
  throw new EspalierError(
    'infeasible',
    `${mixedBytes(type) === undefined ? `The GGUF type ${type} stores` : 'Mixed types store'} rows in groups of 32 values, but this model's rows have ${spec.hidden}. Choose F16, BF16 or F32.`,
  )
}

/**
 * Records in the metadata the blocks whose attention is all zeros and, if any MLP was padded or replaced by zeros, each block's number of
 * real neurons. A reader that knows these keys can skip the zeros.
 */
function noteZeros({ blocks, heads, widths }: GgufTarget, left: readonly BlockLayout[], metadata: MetadataEntries): void {
  const neurons = blocks.map(({ mlp }) => (mlp === undefined ? 0 : at(left, mlp).width))
  if (neurons.some((count, position) => count !== widths[position])) metadata.set('espalier.neurons', { kind: 'integers', value: neurons })
  const zeroed = missingParts(blocks).attention.filter((position) => at(heads, position).query > 0)
  if (zeroed.length > 0) metadata.set('espalier.zeroed.attention', { kind: 'integers', value: zeroed })
}

function describe(spec: DecoderSpec, target: GgufTarget, length: number, capped: boolean): string[] {
  const { attention, mlp } = missingParts(target.blocks)
  const zeroed = attention.filter((position) => at(target.heads, position).query > 0)
  const count = spec.blocks.length
  const blocks = target.blocks.length === count ? '' : `, with ${target.blocks.length} blocks instead of ${count}`
  const notes = [`Opens in llama.cpp, as its architecture “${target.dialect.architecture}”${blocks}.`]
  const absent = attention.filter((position) => !zeroed.includes(position))
  if (absent.length > 0) notes.push(`The removed attention (${blocksText(absent)}) takes no space.`)
  if (zeroed.length > 0)
    notes.push(
      target.perBlock
        ? `The removed attention (${blocksText(zeroed)}) is stored as one head of zeros, which changes no answer.`
        : zerosText('attention', zeroed),
    )
  if (mlp.length > 0) notes.push(zerosText('MLP', mlp))
  if (capped)
    notes.push(
      `The context ends at ${length} tokens, the model's sliding window: llama.cpp computes no window here, so beyond it the answers would differ.`,
    )
  return notes
}

/** The sizes that llama.cpp builds a model from: numbers if all blocks are equal, else lists with an entry per block. */
function modelMetadata(spec: DecoderSpec, target: GgufTarget, contextLength: number): MetadataEntries {
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
function contextLength(spec: DecoderSpec, target: GgufTarget, stretch: number): { readonly length: number; readonly capped: boolean } {
  const whole = Math.round(spec.contextLength * stretch)
  if (target.dialect.windows === 'list') return { length: whole, capped: false }
  const windows = target.blocks.filter(({ attention }) => attention !== undefined).map((block) => spec.slidingWindow(sourceOf(block)))
  const shortest = Math.min(whole, ...windows.filter((window) => window !== undefined))
  return { length: shortest, capped: shortest < whole }
}

type Section = Readonly<Record<string, unknown>>

/** The rotary embedding of a config, in its older or newer form. */
interface RotarySection {
  readonly kind: string
  readonly theta: number | undefined
  readonly section: Section
  /** The context length that the model was trained for before its frequencies were scaled. */
  readonly originalLength: number | undefined
}

/**
 * Reads the rotary section of a config (`rope_scaling` with `rope_theta`, or `rope_parameters`). If kinds of blocks have different
 * sections, reads that of full attention.
 */
function rotarySection(whole: Section): RotarySection {
  const config = isSection(whole.text_config) ? whole.text_config : whole
  const given = [config.rope_scaling, config.rope_parameters].find((value): value is Section => isSection(value)) ?? {}
  const section = isSection(given.full_attention) ? given.full_attention : given
  const kind = text(section.rope_type) ?? text(section.type) ?? 'default'
  return {
    kind: kind === 'su' ? 'longrope' : kind,
    theta: number(config.rope_theta) ?? number(section.rope_theta),
    section,
    originalLength: number(section.original_max_position_embeddings) ?? number(config.original_max_position_embeddings),
  }
}

/** Why an architecture cannot rotate queries and keys as the model does; undefined if it can. */
function rotaryProblem(config: Section, { architecture, takesFactors }: Dialect): string | undefined {
  const { kind } = rotarySection(config)
  if (kind === 'default' || kind === 'linear' || kind === 'yarn') return undefined
  if (kind !== 'llama3' && kind !== 'longrope') return `llama.cpp has no rotary scaling of the kind ${kind}`
  return takesFactors
    ? undefined
    : `llama.cpp's architecture ${architecture} takes no factors per frequency, which the rotary scaling ${kind} needs`
}

/**
 * Writes the metadata for the rotary embedding, and returns its tensors. Throws if the architecture does not support the model's scaling.
 */
function writeRotary(spec: DecoderSpec, config: Section, dialect: Dialect, metadata: MetadataEntries): GgufTensorToWrite[] {
  const problem = rotaryProblem(config, dialect)
  if (problem) throw new EspalierError('infeasible', `${problem}. Choose the format stock or exact.`)
  const { kind, section, originalLength, ...given } = rotarySection(config)
  const blocks = [...spec.blocks.keys()]
  const full = spec.rotary(blocks.find((index) => spec.slidingWindow(index) === undefined) ?? 0)
  const local = blocks.find((index) => spec.slidingWindow(index) !== undefined)
  const theta = given.theta ?? baseOf(full)
  const key = (name: string) => `${dialect.architecture}.rope.${name}`
  const float = (name: string, value: number | undefined) => value !== undefined && metadata.set(key(name), { kind: 'float', value })
  metadata.set(key('dimension_count'), { kind: 'integer', value: full.size })
  float('freq_base', theta)
  const within = local === undefined ? undefined : spec.rotary(local)
  if (dialect.windows === 'list' && within) float('freq_base_swa', within === full ? theta : baseOf(within))
  if (dialect.rotarySections) metadata.set(key('dimension_sections'), { kind: 'integers', value: sectionsOf(section, full.size / 2) })
  if (kind === 'default') return []
  if (originalLength !== undefined) metadata.set(key('scaling.original_context_length'), { kind: 'integer', value: originalLength })
  if (kind === 'llama3') return [factors('rope_freqs.weight', slowing(full, theta, 1))]
  metadata.set(key('scaling.type'), { kind: 'text', value: kind })
  if (kind === 'longrope') {
    float('scaling.attn_factor', full.frequencies(1).scale)
    return [
      factors('rope_factors_long.weight', slowing(full, theta, Number.MAX_SAFE_INTEGER)),
      factors('rope_factors_short.weight', slowing(full, theta, 1)),
    ]
  }
  const factor = number(section.factor)
  float('scaling.factor', factor)
  if (typeof section.truncate === 'boolean') metadata.set('espalier.yarn.truncate', { kind: 'flag', value: section.truncate })
  if (kind === 'linear') return []
  float('scaling.yarn_beta_fast', number(section.beta_fast))
  float('scaling.yarn_beta_slow', number(section.beta_slow))
  // llama.cpp computes the default factor on scores itself, so only a different one is written.
  const [own, usual] = [number(section.attention_factor), 0.1 * Math.log(factor ?? 1) + 1]
  if (own !== undefined) float('scaling.attn_factor', own / usual)
  return []
}

/** The number of rotated pairs for each direction of an image: thirds unless the config says otherwise. For text alone, any split works. */
function sectionsOf({ mrope_section: given }: Section, pairs: number): number[] {
  const [first, second] = [Math.ceil(pairs / 3), Math.floor((pairs + 1) / 3)]
  const own = Array.isArray(given) && given.every(Number.isInteger) ? (given as number[]) : [first, second, pairs - first - second]
  return [...own, 0, 0, 0, 0].slice(0, 4)
}

/** Computes the base of unscaled frequencies. */
function baseOf(rotary: Rotary): number {
  const [, second] = rotary.frequencies(1).inverse
  return second ? second ** (-rotary.size / 2) : 10000
}

/** How many times slower each pair rotates than it would without scaling, in a call of this length. */
function slowing(rotary: Rotary, theta: number, length: number): Float32Array {
  return Float32Array.from(rotary.frequencies(length).inverse, (frequency, i) => theta ** ((-2 * i) / rotary.size) / frequency)
}

function factors(name: string, values: Float32Array): GgufTensorToWrite {
  return { name, type: blockTypeNamed('F32'), shape: [values.length], bytes: async () => new Uint8Array(values.buffer) }
}

const isSection = (value: unknown): value is Section => typeof value === 'object' && value !== null && !Array.isArray(value)
const number = (value: unknown): number | undefined => (typeof value === 'number' && Number.isFinite(value) ? value : undefined)
const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/**
 * Converts the tensors of a pruned model to those of a GGUF file: with the architecture's names and row order, and the mix's types.
 * Quantisation errors are weighted by importances, if there are any.
 */
function ggufTensors(
  spec: DecoderSpec,
  target: GgufTarget,
  mix: Mix,
  tensors: readonly PrunedTensor[],
  importances?: ReadonlyMap<string, Float32Array>,
  chosen: Readonly<Record<string, string>> = {},
): GgufTensorToWrite[] {
  const tied = !tensors.some(({ name }) => name === 'output.weight')
  const copied = tied && target.dialect.needsHead ? tensors.filter(({ name }) => name === target.names.embedding) : []
  const all = [...tensors, ...copied.map((tensor) => ({ ...tensor, name: 'output.weight' }))]
  const types = chooseTypes(all, target, mix)
  return all.map((tensor, index) => {
    const type = ownType(tensor, chosen[tensor.name]) ?? (types[index] as BlockType)
    const conversion = {
      type,
      headRows: interleavedRows(tensor.name, target, spec.headSize),
      change: changeOf(spec, tensor),
      ranges: rangesInFile(tensor, spec.delta),
      importances: type.dtype ? undefined : importances?.get(tensor.name),
    }
    return { name: tensor.name, type, shape: tensor.shape, bytes: async () => convert(tensor, conversion) }
  })
}

/** The type that a plan chose for a tensor. Throws if its blocks do not divide the tensor's rows. */
function ownType({ name, shape }: PrunedTensor, chosen: string | undefined): BlockType | undefined {
  if (chosen === undefined) return undefined
  const type = blockTypeNamed(chosen)
  if (columnCount(shape) % type.values === 0) return type
  throw new EspalierError('invalid', `The plan stores ${name} in ${chosen}, whose blocks do not divide its rows of ${columnCount(shape)}.`)
}

const parts: Readonly<Record<string, MixPart>> = {
  output: 'head',
  token_embd: 'embedding',
  attn_q: 'query',
  attn_k: 'key',
  attn_v: 'value',
  attn_qkv: 'value',
  attn_output: 'output',
  ffn_gate: 'gate',
  ffn_up: 'up',
  ffn_down: 'down',
  ffn_gate_exps: 'gate',
  ffn_up_exps: 'up',
  ffn_down_exps: 'down',
  ffn_gate_shexp: 'gate',
  ffn_up_shexp: 'up',
  ffn_down_shexp: 'down',
}

/**
 * Matrices that llama.cpp's quantiser keeps in float32: routers, which choose by small differences, and convolution kernels, which are
 * small.
 */
const router = /\.(ffn_gate_inp(_shexp)?|ssm_conv1d)\.weight$/

/** Architectures whose models with 80 blocks llama.cpp treats as its 70B. */
const large = ['llama', 'deci', 'qwen2']

/** Chooses the type of each tensor. Vectors stay in float32. */
function chooseTypes(tensors: readonly PrunedTensor[], { dialect, heads, blocks, experts }: GgufTarget, mix: Mix): BlockType[] {
  const isTied = !tensors.some(({ name }) => name === 'output.weight')
  const found = tensors.map(({ name }) => (name.endsWith('.bias') ? undefined : parts[name.split('.').at(-2) ?? '']))
  const values = found.filter((part) => part === 'value').length
  const { query, keyValue } = heads[0] ?? { query: 1, keyValue: 1 }
  const isLarge = blocks.length === 80 && large.includes(dialect.architecture)
  const model = { shared: keyValue === 0 ? 0 : query / keyValue, isLarge, experts: experts ?? 0 }
  const seen = new Map<MixPart | undefined, number>()
  return tensors.map((tensor, position) => {
    const { name, shape } = tensor
    const part = found[position]
    const seenBefore = seen.get(part) ?? 0
    seen.set(part, seenBefore + 1)
    if (shape.length === 1 || router.test(name) || name.endsWith('.bias')) return blockTypeNamed('F32')
    if (mix.asStored) return blockTypeNamed(keptType(tensor))
    const width = columnCount(shape)
    // A mixture and its shared expert each have one tensor per block.
    const index = experts !== undefined && /^blk\.\d+\.ffn_/.test(name) ? Number(name.split('.')[1]) : seenBefore
    const place = { ...model, index, count: part === 'value' ? values : blocks.length, isExpert: shape.length > 2 }
    return blockTypeNamed(fitType(chosenType(mix, isTied && part === 'embedding' ? 'head' : part, place, width), width))
  })
}

/** The type of a tensor in its source file. Throws if its rows were changed. */
function keptType({ name, stored }: PrunedTensor): string {
  if (stored) return stored.type
  throw new EspalierError(
    'infeasible',
    `Tensor ${name} differs from the source: its neurons were cut, or it was refitted, zeroed or scaled by gateCorrection=fitted. The GGUF type SOURCE can only remove whole experts, blocks and attention submodules from a GGUF file or a folder in MXFP4. Choose another type.`,
  )
}

/** Number of values in the smallest blocks of quantised types. */
const quantisedTogether = 32

/**
 * The width to which an MLP is padded with zero neurons: the one that a mix stores in the fewest bytes. It is a multiple of 32 even in 16
 * bits, so that llama.cpp's quantiser can quantise the file later. Nothing is padded in F32, or if the hidden size is not a multiple of 32,
 * because then nothing can be quantised.
 */
export function paddedWidth(width: number, hidden: number, gated: boolean, mix: Mix): number {
  if (mix.main === 'F32' || hidden % quantisedTogether !== 0) return width
  const block = Math.max(quantisedTogether, rowMultiple(mix))
  const rowBytes = (length: number) => bytesOfValues(blockTypeNamed(fitType(mix.main, length)), length)
  const bytes = (candidate: number) => (gated ? 2 : 1) * candidate * rowBytes(hidden) + hidden * rowBytes(candidate)
  const [narrow, wide] = [quantisedTogether, block].map((multiple) => Math.ceil(width / multiple) * multiple) as [number, number]
  return bytes(wide) < bytes(narrow) ? wide : narrow
}

function interleavedRows(name: string, { dialect }: GgufTarget, headSize: number): number | undefined {
  return dialect.interleaved && /\.attn_[qk]\.(weight|bias)$/.test(name) ? headSize : undefined
}

/**
 * How the values of a tensor change in a GGUF file: a family's offset is added to norm weights, and a DeltaNet's rate replaces its
 * logarithm.
 */
function changeOf({ norm: { offset = 0 } }: DecoderSpec, { name, shape }: TensorToWrite): Conversion['change'] {
  if (isDecay(name)) return (value) => -Math.exp(value)
  return shape.length === 1 && offset !== 0 && hasOffset(name) ? (value) => value + offset : undefined
}

// Whole rows of about this many values are converted at a time.
const chunk = 2 ** 20

interface Conversion {
  readonly type: BlockType
  readonly headRows: number | undefined
  readonly change: ((value: number) => number) | undefined
  /** Where the rows go in the file, or the columns if heads are columns. */
  readonly ranges: readonly Rows[] | undefined
  readonly importances: Float32Array | undefined
}

async function convert(tensor: PrunedTensor, conversion: Conversion): Promise<Uint8Array> {
  const { type, change, importances } = conversion
  const asStored = tensor.stored?.type === type.name
  const stored = await (asStored ? tensor.stored.bytes() : tensor.bytes())
  const rows = rowCount(tensor.shape)
  const columns = columnCount(tensor.shape)
  const bytes = inOrder(tensor, conversion, stored, asStored)
  if (asStored || (type.name === tensor.dtype && !change)) return bytes
  const result = new Uint8Array(bytesOfValues(type, rows * columns))
  // The number of rows that share importances: each expert has its own.
  const group = tensor.shape.length > 2 ? at(tensor.shape, 1) : rows
  const rowsAtOnce = Math.max(1, Math.floor(chunk / columns)) * (tensor.shape.length === 1 ? chunk : 1)
  for (let first = 0; first < rows; ) {
    const count = Math.min(rowsAtOnce, group - (first % group))
    const size = bytes.byteLength / rows
    const values = toFloat32(bytes.subarray(first * size, (first + count) * size), tensor.dtype)
    if (!type.dtype) requireFinite(tensor.name, values, type)
    const own = importances?.subarray(...(importances.length > columns ? ofGroup(Math.floor(first / group), columns) : []))
    const encoded = await encodeRows(change ? values.map(change) : values, type, columns, own)
    if (type.dtype === 'F16') requireSixteenBits(tensor.name, encoded)
    result.set(encoded, bytesOfValues(type, first * columns))
    first += count
    // Converting takes seconds, so other work gets a turn between chunks.
    await new Promise(setImmediate)
  }
  return result
}

/** Puts rows in llama.cpp's order. Columns copied from a GGUF file are in that order already. */
function inOrder({ name, shape }: PrunedTensor, { headRows, ranges }: Conversion, bytes: Uint8Array, asStored: boolean): Uint8Array {
  const rowBytes = bytes.byteLength / rowCount(shape)
  if (headRows !== undefined) return interleave(bytes, rowBytes, headRows)
  if (!ranges || (asStored && headsAreColumns(name))) return bytes
  return putAt(bytes, ranges, headsAreColumns(name) ? rowBytes / columnCount(shape) : rowBytes)
}

/** Moves entries to their ranges. If there are more entries, does so in every row of as many entries as the ranges have. */
function putAt(bytes: Uint8Array, ranges: readonly Rows[], entryBytes: number): Uint8Array {
  const result = new Uint8Array(bytes.byteLength)
  for (let from = 0; from < bytes.byteLength; ) {
    const row = from
    for (const { first, count } of ranges) {
      result.set(bytes.subarray(from, from + count * entryBytes), row + first * entryBytes)
      from += count * entryBytes
    }
  }
  return result
}

const ofGroup = (group: number, columns: number): [number, number] => [group * columns, (group + 1) * columns]

/** Throws for values that are not finite, because ggml would end the process. */
function requireFinite(name: string, values: Float32Array, { name: type }: BlockType): void {
  const count = countNonFinite(values)
  if (count === 0) return
  throw new EspalierError(
    'infeasible',
    `Tensor ${name} has ${count} values that are NaN or infinite, which ${type} cannot hold. Choose F32.`,
  )
}

function requireSixteenBits(name: string, bytes: Uint8Array): void {
  if (countNonFinite(toFloat32(bytes, 'F16')) === 0) return
  throw new EspalierError('infeasible', `Tensor ${name} has values beyond 65504, which F16 cannot hold. Choose the GGUF type BF16 or F32.`)
}

/** Reorders the rows of each head as llama.cpp rotates them: rows of the first and the second half alternate. */
function interleave(bytes: Uint8Array, rowBytes: number, headRows: number): Uint8Array {
  const result = new Uint8Array(bytes.byteLength)
  const half = headRows / 2
  for (let row = 0; row * rowBytes < bytes.byteLength; row++) {
    const within = row % headRows
    const to = row - within + (within < half ? 2 * within : 2 * (within - half) + 1)
    result.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), to * rowBytes)
  }
  return result
}
