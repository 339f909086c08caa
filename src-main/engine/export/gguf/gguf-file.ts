import { at } from '#contract/at.ts'
import { EspalierError } from '#contract/errors.ts'
import { version } from '#contract/version.ts'
import type { BlockLayout, DecoderSpec } from '#engine/architectures/spec.ts'
import type { Checkpoint } from '#engine/checkpoint/checkpoint.ts'
import { type GgufTensorToWrite, type MetadataEntries, storedBytes } from '#engine/checkpoint/gguf/write-gguf.ts'
import { specWithPlan } from '#engine/model/views/sliced-spec.ts'
import { blocksText, missingParts } from '../packing.ts'
import type { Planned } from '../pieces.ts'
import { prunedTensors } from '../pruned-tensors.ts'
import { type Importances, importancesByName } from './importances.ts'
import { contextLength, modelMetadata } from './metadata.ts'
import { findMix, type Mix, mixes, rowMultiple, weighsErrors } from './mix.ts'
import { rotarySection, writeRotary } from './rotary.ts'
import { chooseTarget, type GgufTarget } from './target.ts'
import { ggufTensors, paddedWidth } from './tensors.ts'

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

/** Lays a pruned model out as a GGUF file of a type. Throws `infeasible` for what llama.cpp cannot run, before any weight is read. */
export function layOutGguf(planned: Planned, type: string, importances?: Importances): GgufFile {
  const { checkpoint, spec } = planned.model
  if (planned.plan.slice || spec.sliceWidth !== undefined) throw refuseSliced()
  const left = specWithPlan(spec, planned.plan).blocks
  const mix = findMix(type)
  if (mix.asStored && !checkpoint.readStored) throw refuseFolder()
  const chosen = chooseTarget(spec, left)
  refuseShortRows(spec, mix, type)
  const widths = paddedWidths(spec, chosen, mix)
  const target = chooseTarget(spec, left, widths)
  const { kind, section, originalLength } = rotarySection(checkpoint.config)
  const factor = typeof section.factor === 'number' ? section.factor : 1
  const { length, capped } = contextLength(spec, target, kind === 'yarn' && originalLength === spec.contextLength ? factor : 1)
  const metadata: MetadataEntries = new Map([
    ['general.architecture', { kind: 'text', value: target.dialect.architecture }],
    ['general.type', { kind: 'text', value: 'model' }],
    ['general.file_type', { kind: 'integer', value: mix.asStored ? fileTypeOf(checkpoint) : mix.fileType }],
    ['general.quantization_version', { kind: 'integer', value: 2 }],
    ['espalier.version', { kind: 'text', value: version }],
    ...modelMetadata(spec, target, length),
  ])
  const rotary = writeRotary(spec, checkpoint.config, target.dialect, metadata)
  noteZeros(target, left, metadata)
  const { blocks, names } = target
  const width = (position: number) => target.widths[position] as number
  const pruned = prunedTensors(planned, { removed: 'zeroed', width, experts: target.experts, blocks, names })
  const weighed = importances && weighsErrors(mix) ? importancesByName(pruned, target, importances) : new Map<string, Float32Array>()
  const tensors = [...rotary, ...ggufTensors(spec, target, mix, pruned, weighed)]
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
      ...(spec.hidden % rowMultiple(mix) === 0
        ? []
        : [`Larger here: its groups of ${rowMultiple(mix)} values do not divide rows of ${spec.hidden}.`]),
    ],
  }
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
    `The GGUF type ${type} stores rows in groups of 32 values, but this model's rows have ${spec.hidden}. Choose F16, BF16 or F32.`,
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
  const blocks = target.blocks.length === count ? '' : `, ${target.blocks.length} blocks instead of ${count}`
  const notes = [`llama.cpp reads it as its architecture “${target.dialect.architecture}”${blocks}.`]
  const absent = attention.filter((position) => !zeroed.includes(position))
  if (absent.length > 0) notes.push(`No attention in ${blocksText(absent)}: it takes neither memory nor time.`)
  if (zeroed.length > 0)
    notes.push(
      target.perBlock
        ? `Attention in ${blocksText(zeroed)}: replaced by one head of zeros, because the architecture needs one.`
        : `Attention in ${blocksText(zeroed)}: replaced by zeros; still uses memory and time.`,
    )
  if (mlp.length > 0) notes.push(`MLP in ${blocksText(mlp)}: replaced by zeros.`)
  if (capped)
    notes.push(
      `The context ends at ${length} tokens, the model's sliding window: llama.cpp computes no window here, so beyond it the answers would differ.`,
    )
  return notes
}
