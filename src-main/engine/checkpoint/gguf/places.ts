import { deltaNames, hasOffset, headsAreColumns, isDecay, rangesInFile } from '#engine/architectures/delta-names.ts'
import type { NormRole } from '#engine/architectures/dialect.ts'
import type { DecoderSpec, DeltaTensors, Projection } from '#engine/architectures/spec.ts'
import type { Rows, TensorInfo } from '../checkpoint.ts'
import type { GgufLayout } from './block-layout.ts'
import type { Described, Place, PlacedTensor } from './place.ts'
import { isMixtureTensor, placeMixtures } from './place-mixtures.ts'

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
