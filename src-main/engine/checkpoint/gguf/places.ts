import { deltaNames, hasOffset, headsAreColumns, isDecay, rangesInFile } from '#engine/architectures/delta-names.ts'
import type { NormRole } from '#engine/architectures/dialect.ts'
import type { DecoderSpec, DeltaTensors, Projection } from '#engine/architectures/spec.ts'
import type { Rows, TensorInfo } from '../checkpoint.ts'
import type { GgufLayout } from './block-layout.ts'
import type { Described, Place, PlacedTensor } from './place.ts'
import { isMixtureTensor, placeMixtures } from './place-mixtures.ts'

// They are part of the config.
const rotaryTensors = /^rope_|rot_embd/

/** The tensors of a file as they appear. Throws an Error for one that the family does not know. */
export function placeTensors(tensors: ReadonlyMap<string, PlacedTensor>, described: Described): Map<string, Place> {
  const places = new Map<string, Place>()
  for (const stored of tensors.values()) {
    if (isMixtureTensor(stored.name, described) || isBehindLast(stored.name, described)) continue
    const names = translateName(described, stored.name)
    if (names === undefined && rotaryTensors.test(stored.name)) continue
    if (names === undefined) throw new Error(`it has tensor ${stored.name}, which ${described.spec.family} does not know`)
    if (!isMissing(stored.name, described.layout))
      for (const place of placesOf(stored, names, described)) places.set(place.info.name, place)
  }
  for (const place of placeMixtures(tensors, described)) places.set(place.info.name, place)
  return places
}

/** Whether a tensor belongs to a block that only predicts further tokens. */
const isBehindLast = (name: string, { layout }: Described): boolean => Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1) >= layout.count

/** The names in transformers of a tensor's contents; undefined for one that is no weight, such as rotary factors. */
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

/** The weights of a block by their names in the file. Joined projections are stacked, queries first. */
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
  // If a block has one norm for both, it is called the attention's.
  return part !== 'ffn' ? !block.attention && !(name.includes('attn_norm') && block.width > 0) : block.width === 0
}

/** llama.cpp omits the middle dimension of a convolution. */
const isKernel = (name: string): boolean => name.endsWith(deltaNames.convolution)

/** How to convert a value of the file to the model's. */
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

/** Which rows and how many columns of a tensor are used: for an MLP, all except the zeros added after its neurons. */
function neuronsOf({ name, shape }: PlacedTensor, { widths, storedWidths }: GgufLayout): { rows: Rows[]; columns: number | undefined } {
  const [all = 1, columns] = shape
  const [, index, part] = /^blk\.(\d+)\.ffn_(gate|up|down)\./.exec(name) ?? []
  const block = Number(index)
  const [width, stored] = [widths[block], storedWidths[block]]
  const whole = { rows: [{ first: 0, count: all }], columns }
  if (width === undefined || stored === undefined || width === stored) return whole
  if (part === 'down') return columns === stored ? { ...whole, columns: width } : whole
  // Gate and up may be halves of one tensor.
  const halves = all / stored
  if (halves !== 1 && halves !== 2) return whole
  return { rows: Array.from({ length: halves }, (_, half) => ({ first: half * stored, count: width })), columns }
}

/** The rows of queries, keys and values in the tensor that holds all three. */
function headRows({ name, shape }: PlacedTensor, { heads, keyValueHeads }: GgufLayout, headSize: number): Rows[][] {
  let first = 0
  return [heads, keyValueHeads, keyValueHeads].map((count) => {
    const rows = { first, count: count * headSize }
    first += rows.count
    if (first > (shape[0] ?? 1)) throw new Error(`its tensor ${name} has ${shape[0]} rows, its heads need ${first}`)
    return [rows]
  })
}
