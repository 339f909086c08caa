import type { FileHandle } from 'node:fs/promises'
import { at } from '#contract/at.ts'
import { deltaNames, hasOffset, headsAreColumns, isDecay, rangesInFile } from '#engine/architectures/delta-names.ts'
import type { Dialect, NormRole } from '#engine/architectures/dialect.ts'
import {
  type DecoderSpec,
  type DeltaTensors,
  isConstant,
  type MixtureTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import { columnCount, type Rows, rowCount, type TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import type { GgufLayout } from './block-sizes.ts'
import type { GgufHeader, GgufTensor } from './header.ts'

// These tensors become part of the config.
const rotaryTensors = /^rope_|rot_embd/

/** Locates the model's tensors in a file, by their names in transformers. Throws an Error for a tensor that the family does not know. */
export function placeTensors(tensors: ReadonlyMap<string, PlacedTensor>, described: Described): Map<string, Place> {
  const places = new Map<string, Place>()
  for (const stored of tensors.values()) {
    if (isMixtureTensor(stored.name, described) || isInExtraBlock(stored.name, described)) continue
    const names = translateName(described, stored.name)
    if (names === undefined && rotaryTensors.test(stored.name)) continue
    if (names === undefined) throw new Error(`it has tensor ${stored.name}, which ${described.spec.family} does not know`)
    if (!isMissing(stored.name, described.layout))
      for (const place of placesOf(stored, names, described)) places.set(place.info.name, place)
  }
  for (const place of placeMixtures(tensors, described)) places.set(place.info.name, place)
  return places
}

/** Whether a tensor belongs to an extra block at the end, which only predicts further tokens. */
const isInExtraBlock = (name: string, { layout }: Described): boolean => Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1) >= layout.count

/** The names in transformers of the weights that a tensor holds; undefined if it is not a weight, for instance rotary factors. */
function translateName(described: Described, name: string): string[] | undefined {
  const [, block, part, kind = 'weight'] = /^(?:blk\.(\d+)\.)?(\w+)(?:\.(weight|bias))?$/.exec(name) ?? []
  if (part === undefined) return undefined
  const weights = (block === undefined ? outerWeights(described.spec) : blockWeights(described, Number(block))).get(part)
  return weights && [...new Set(weights)].map((weight) => weight.replace(/weight$/, kind))
}

const outerWeights = ({ embedding, finalNorm, head }: DecoderSpec) =>
  new Map([
    ['token_embd', [embedding]],
    ['output_norm', [finalNorm.weight]],
    ['output', [head.weight]],
  ])

/** The names of a block's weights, by their names in the file. Projections that share a tensor are stacked in this order. */
function blockWeights({ spec, dialect: { norms, joinsGateUp } }: Described, index: number): Map<string, string[]> {
  const tensors = spec.block(index)
  const { query, key, value, output, sinks, delta, gate, up, down } = tensors
  const weights = (...projections: (Projection | undefined)[]) => projections.flatMap((one) => one?.weight ?? [])
  const attentionWeights: [string, string[]][] = [
    ['attn_q', weights(query)],
    ['attn_k', weights(key)],
    ['attn_v', weights(value)],
    ['attn_output', weights(output)],
  ]
  const parts: [string, string[]][] = [
    ...Object.entries(norms).map(([role, part]): [string, string[]] => [part, [tensors[role as NormRole]?.weight ?? []].flat()]),
    ['attn_qkv', weights(query, key, value)],
    ...(delta ? deltaWeights(delta, output) : attentionWeights),
    ['attn_sinks', sinks ? [sinks.weight] : []],
    ['ffn_gate', weights(gate)],
    ['ffn_up', joinsGateUp ? weights(gate, up) : weights(up)],
    ['ffn_down', weights(down)],
  ]
  return new Map(parts.filter(([, names]) => names.length > 0))
}

/** The weights of a Gated DeltaNet. */
const deltaWeights = (delta: DeltaTensors, output: Projection): [string, string[]][] =>
  Object.entries({ ...delta, output }).map(([key, { weight }]) => [
    deltaNames[key as keyof DeltaTensors | 'output'].replace(/\.\w+$/, ''),
    [weight],
  ])

/** Whether a tensor belongs to a removed submodule. */
function isMissing(name: string, { blocks }: GgufLayout): boolean {
  const [, index, part] = /^blk\.(\d+)\.(attn|ffn|ssm)_/.exec(name) ?? []
  const block = index === undefined ? undefined : blocks?.[Number(index)]
  if (!block) return false
  // If attention and MLP share one norm, the file names it after the attention.
  return part !== 'ffn' ? !block.attention && !(name.includes('attn_norm') && block.width > 0) : block.width === 0
}

/** Whether a tensor is the kernel of a convolution, whose middle dimension llama.cpp omits. */
const isKernel = (name: string): boolean => name.endsWith(deltaNames.convolution)

/** Returns a function that converts stored values to the model's values, or undefined if they are the same. */
function undoIn(name: string, { norm: { offset = 0 } }: DecoderSpec): Place['undo'] {
  if (isDecay(name)) return (value) => Math.log(-value)
  return offset !== 0 && hasOffset(name) ? (value) => value - offset : undefined
}

function placesOf(stored: PlacedTensor, names: readonly string[], { spec, dialect, layout }: Described): Place[] {
  const { headSize } = spec
  const { rows, columns } = neuronsOf(stored, layout)
  const rowsEach = names.length === 1 ? [rows] : headRows(stored, layout, headSize)
  return names.map((name, index) => {
    const inFile = rangesInFile(stored, spec.delta)
    const columnRanges = headsAreColumns(stored.name) ? inFile : undefined
    const ranges = (columnRanges ? undefined : inFile) ?? rowsEach[index] ?? []
    const shape = [
      ranges.reduce((sum, { count }) => sum + count, 0),
      ...(isKernel(stored.name) ? [1] : []),
      ...(columns === undefined ? [] : [columns]),
      ...stored.shape.slice(2),
    ]
    const undo = undoIn(stored.name, spec)
    const dtype = undo ? 'F32' : stored.type.dtype
    const values = shape.reduce((product, size) => product * size, 1)
    const asStored = columns === stored.shape[1]
    const info: TensorInfo = {
      name,
      dtype: dtype ?? 'F32',
      shape,
      bytes: dtype && !undo ? (values * stored.type.bytes) / stored.type.values : values * 4,
      ...(asStored ? { storedAs: stored.type.name } : {}),
      ...(asStored && !dtype && !columnRanges ? { quantisedAs: stored.type.name } : {}),
    }
    const interleavedRows = dialect.interleaved && /\.attn_[qk]\./.test(stored.name) ? headSize : undefined
    const rest = { ...(undo ? { undo } : {}), ...(columnRanges ? { columnRanges } : {}) }
    return { info, rows: ranges.map((range) => ({ ...range, stored })), interleavedRows, ...rest }
  })
}

/** Which rows, and how many columns, of a tensor are used. In an MLP, these are all except the zeros added after its neurons. */
function neuronsOf({ name, shape }: PlacedTensor, { widths, storedWidths }: GgufLayout): { rows: Rows[]; columns: number | undefined } {
  const [all = 1, columns] = shape
  const [, index, part] = /^blk\.(\d+)\.ffn_(gate|up|down)\./.exec(name) ?? []
  const block = Number(index)
  const [width, stored] = [widths[block], storedWidths[block]]
  const whole = { rows: [{ first: 0, count: all }], columns }
  if (width === undefined || stored === undefined || width === stored) return whole
  if (part === 'down') return columns === stored ? { ...whole, columns: width } : whole
  // Gate and up may be the two halves of one tensor.
  const halves = all / stored
  if (halves !== 1 && halves !== 2) return whole
  return { rows: Array.from({ length: halves }, (_, half) => ({ first: half * stored, count: width })), columns }
}

/** The ranges of rows of queries, keys and values in the tensor that holds all three. */
function headRows({ name, shape }: PlacedTensor, { heads, keyValueHeads }: GgufLayout, headSize: number): Rows[][] {
  let first = 0
  return [heads, keyValueHeads, keyValueHeads].map((count) => {
    const rows = { first, count: count * headSize }
    first += rows.count
    if (first > (shape[0] ?? 1)) throw new Error(`its tensor ${name} has ${shape[0]} rows, but its heads need ${first}`)
    return [rows]
  })
}

const mixturePart =
  /^blk\.(\d+)\.(ffn_gate_inp|ffn_(?:gate|up|down|gate_up)_exps|ffn_(?:gate|up|down|gate_inp)_shexp|exp_probs_b)\.(?:weight|bias)$/

/** Whether a tensor belongs to a mixture of the model. */
function isMixtureTensor(name: string, { spec }: Described): boolean {
  const block = mixturePart.exec(name)?.[1]
  return block !== undefined && Number(block) < spec.blocks.length && spec.block(Number(block)).mixture !== undefined
}

/** Where a projection's rows are in a stored tensor: they start at row `first`. */
interface Source {
  readonly stored: PlacedTensor
  readonly first: number
  readonly target: Pick<Projection, 'weight' | 'firstRow' | 'rows' | 'columns' | 'shape'>
}

/** Locates the tensors of all mixtures. Each expert's rows are a range of a stored tensor that all experts of the block share. */
function* placeMixtures(tensors: ReadonlyMap<string, PlacedTensor>, { spec, layout }: Described): Generator<Place> {
  for (const [index, block] of spec.blocks.entries()) {
    const { mixture } = spec.block(index)
    if (!mixture || (layout.blocks && block.width === 0)) continue
    const find = (part: string, kind = 'weight') => tensors.get(`blk.${index}.${part}.${kind}`)
    const byName = Map.groupBy(sourcesOf(mixture, find), ({ target }) => target.weight)
    for (const sources of byName.values()) yield placeOf(sources.sort((one, other) => one.target.firstRow - other.target.firstRow))
  }
}

type Find = (part: string, kind?: string) => PlacedTensor | undefined

function sourcesOf({ router, correction, experts, shared, sharedGate }: MixtureTensors, find: Find): Source[] {
  const whole = (stored: PlacedTensor | undefined, target: Source['target'] | undefined): Source[] =>
    stored && target ? [{ stored, first: 0, target }] : []
  const ofExperts = (part: string, kind?: string) => {
    const stored = find(part, kind)
    if (!stored || stored.shape[0] === experts.length) return stored
    throw new Error(`its tensor ${stored.name} has ${stored.shape[0]} experts, but its metadata says ${experts.length}`)
  }
  const expertBias = (part: string, place: number, { bias, rows }: Projection): Source[] => {
    const stored = bias === undefined ? undefined : asVector(ofExperts(`ffn_${part}_exps`, 'bias'))
    return stored
      ? [{ stored, first: (place * rowCount(stored.shape)) / experts.length, target: vector({ weight: bias as string, shape: [rows] }) }]
      : []
  }
  const expert = (part: string, place: number, target: Projection | undefined): Source[] => {
    const separate = ofExperts(`ffn_${part}_exps`)
    const joined = separate || part === 'down' ? undefined : ofExperts('ffn_gate_up_exps')
    const stored = separate ?? joined
    if (!stored || !target) return []
    const rows = rowCount(stored.shape) / experts.length / (joined ? 2 : 1)
    if (target.rows > rows) throw new Error(`its tensor ${stored.name} has ${rows} rows for each expert, but ${target.rows} are needed`)
    return [{ stored, first: (joined ? 2 * place + (part === 'up' ? 1 : 0) : place) * rows, target }, ...expertBias(part, place, target)]
  }
  return [
    ...whole(ofExperts('ffn_gate_inp'), router),
    ...whole(
      router.bias === undefined ? undefined : ofExperts('ffn_gate_inp', 'bias'),
      router.bias === undefined ? undefined : vector({ weight: router.bias, shape: [router.rows] }),
    ),
    ...whole(ofExperts('exp_probs_b', 'bias'), correction && vector(correction)),
    ...experts.flatMap((one, place) =>
      isConstant(one) ? [] : [...expert('gate', place, one.gate), ...expert('up', place, one.up), ...expert('down', place, one.down)],
    ),
    ...(['gate', 'up', 'down'] as const).flatMap((part) => whole(find(`ffn_${part}_shexp`), shared?.[part])),
    ...whole(asRow(find('ffn_gate_inp_shexp')), sharedGate),
  ]
}

const vector = ({ weight, shape }: ShapedTensor): Source['target'] => ({ weight, firstRow: 0, rows: at(shape, 0), columns: 1, shape })

/** Views the experts' biases as one vector. Throws an Error if they are quantised, because their blocks could not be split. */
function asVector(stored: PlacedTensor | undefined): PlacedTensor | undefined {
  if (stored && !stored.type.dtype)
    throw new Error(`its tensor ${stored.name} is stored as ${stored.type.name}, but must have plain values`)
  return stored && { ...stored, shape: [stored.shape.reduce((product, size) => product * size, 1)] }
}

/** Turns a vector into a matrix of one row. llama.cpp stores such matrices as vectors. */
const asRow = (stored: PlacedTensor | undefined): PlacedTensor | undefined =>
  stored && { ...stored, shape: stored.shape.length === 1 ? [1, ...stored.shape] : stored.shape }

/** Describes a tensor of the model that consists of rows of stored tensors. Throws an Error if a stored tensor is too small. */
function placeOf(sources: readonly Source[]): Place {
  for (const { stored, first, target } of sources) {
    if (first + target.rows > rowCount(stored.shape) || target.columns > columnCount(stored.shape))
      throw new Error(`its tensor ${stored.name} is [${stored.shape.join(', ')}], too small for ${target.weight}`)
  }
  const { stored, target } = sources[0] as Source
  const types = new Set(sources.map((source) => source.stored.type))
  const dtype = types.size === 1 ? stored.type.dtype : undefined
  const shape = target.shape ?? [target.rows, target.columns]
  const values = shape.reduce((product, size) => product * size, 1)
  const whole = types.size === 1 && (shape.length === 1 || target.columns === stored.shape.at(-1))
  const info: TensorInfo = {
    name: target.weight,
    dtype: dtype ?? 'F32',
    shape,
    bytes: values * (dtype ? stored.type.bytes / stored.type.values : 4),
    ...(whole ? { storedAs: stored.type.name } : {}),
    ...(whole && !dtype ? { quantisedAs: stored.type.name } : {}),
  }
  const rows = sources.map((source) => ({ stored: source.stored, first: source.first, count: source.target.rows }))
  return { info, rows, interleavedRows: undefined }
}

/** One file of a model. */
export interface Part {
  readonly file: string
  readonly handle: FileHandle
  readonly header: GgufHeader
}

/** A tensor in the file that holds it. */
export interface PlacedTensor extends GgufTensor {
  readonly part: Part
}

/** A range of rows of a stored tensor. */
export interface StoredRows extends Rows {
  readonly stored: PlacedTensor
}

/**
 * A tensor as callers see it, and the stored rows that it consists of. `interleavedRows` is the number of rows per head if llama.cpp
 * interleaved them.
 */
export interface Place {
  readonly info: TensorInfo
  readonly rows: readonly StoredRows[]
  readonly interleavedRows: number | undefined
  /** Converts a stored value to the model's value, if they differ. */
  readonly undo?: (value: number) => number
  /** Where the model's columns are in the file, if the file orders them differently. */
  readonly columnRanges?: readonly Rows[]
}

/** What is needed to locate a file's tensors: the model that its config describes, its architecture's dialect, and its sizes. */
interface Described {
  readonly spec: DecoderSpec
  readonly dialect: Dialect
  readonly layout: GgufLayout
}
