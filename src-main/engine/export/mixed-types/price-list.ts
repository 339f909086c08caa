import { at } from '#contract/at.ts'
import type { MixedTypes } from '#contract/pruning/mixed-types.ts'
import type { DecoderSpec } from '#engine/architectures/spec.ts'
import { columnCount, rowCount } from '#engine/checkpoint/checkpoint.ts'
import { toFloat32 } from '#engine/checkpoint/dtypes.ts'
import { type BlockType, blockTypeNamed, bytesOfValues, decodeBlocks, encodeRows } from '#engine/checkpoint/gguf/value-blocks.ts'
import type { GgufTarget } from '#engine/export/gguf/target.ts'
import type { PrunedTensor } from '#engine/export/pieces.ts'
import { attentionOf, mlpOf } from '#engine/model/weights/weights.ts'
import type { ObservedProjection } from '#engine/pruning/gates/observed.ts'
import type { Sensitivities, Sensitivity } from '#engine/pruning/gates/sensitivity.ts'

/** A matrix with the types that it may have, the smallest first. */
export type PricedTensor = MixedTypes['tensors'][number]
export type TypeChoice = PricedTensor['choices'][number]

/** The types that tensors may have, where their blocks divide the rows. */
const candidateTypes = [
  'F16',
  'Q8_0',
  'Q6_K',
  'Q5_K',
  'Q5_1',
  'Q5_0',
  'Q4_K',
  'Q4_1',
  'Q4_0',
  'IQ4_NL',
  'IQ4_XS',
  'Q3_K',
  'IQ3_S',
  'IQ3_XXS',
  'Q2_K',
  'IQ2_S',
  'IQ2_XS',
  'IQ2_XXS',
  'IQ1_M',
  'IQ1_S',
]

/** The sensitivities of a GGUF file's matrices, whose sum prices their errors. A tied embedding has two: as the head and as the first input. */
export function sensitivitiesByName(
  spec: DecoderSpec,
  tensors: readonly PrunedTensor[],
  { blocks, names }: GgufTarget,
  { parts, head, embedding }: Sensitivities,
): Map<string, readonly Sensitivity[]> {
  const found = new Map<string, readonly Sensitivity[]>()
  const isTied = !tensors.some(({ name }) => name === names.head.weight && name !== names.embedding)
  found.set(names.embedding, isTied ? [embedding, head] : [embedding])
  if (!isTied) found.set(names.head.weight, [head])
  for (const { name, shape } of tensors) {
    const [, position, part = '', projection = '', experts] = /^blk\.(\d+)\.(attn|ffn)_([a-z]+)(_exps)?\.weight$/.exec(name) ?? []
    const packed = blocks[Number(position)]
    if (!packed) continue
    const source = part === 'attn' ? packed.attention : packed.mlp
    const own = source === undefined ? undefined : parts.get(part === 'attn' ? attentionOf(source) : mlpOf(source))
    if (!own || source === undefined) continue
    const one = part === 'attn' ? ofMixer(spec, source, projection, own) : own[projection as 'gate' | 'up' | 'down']
    if (one) found.set(name, [experts ? ofExperts(one, shape) : one])
  }
  return found
}

/** Moves the rows of each expert to where a file has them, [E, R, C]: it may extend narrow experts by zeros. */
function ofExperts(own: Sensitivity, [experts = 1, stored = 0]: readonly number[]): Sensitivity {
  const each = own.rows.length / experts
  const rows = new Float64Array(experts * stored)
  for (let expert = 0; expert < experts; expert++) rows.set(own.rows.subarray(expert * each, (expert + 1) * each), expert * stored)
  return { ...own, rows }
}

function ofMixer(
  spec: DecoderSpec,
  block: number,
  projection: string,
  own: Readonly<Partial<Record<ObservedProjection, Sensitivity>>>,
): Sensitivity | undefined {
  if (projection === 'output') return own.output
  const { mixer } = own
  const { query, key, value, delta } = spec.block(block)
  const [ofQueries, ofKeys] = [query.rows, query.rows + key.rows]
  const ranges = { q: [0, ofQueries], k: [ofQueries, ofKeys], v: [ofKeys, ofKeys + value.rows], qkv: [0, ofKeys + value.rows] } as const
  const range = ranges[projection as keyof typeof ranges]
  if (!mixer || !range) return undefined
  // The model multiplies by stored queries times the scale of scores, unless a norm on queries has it.
  const scale = spec.block(block).queryNorm || delta ? 1 : spec.scoreScale ** 2
  const rows = mixer.rows.slice(...range).map((own, i) => (range[0] + i < ofQueries ? own * scale : own))
  return { ...mixer, rows }
}

/** About this many values of each tensor are quantised for its prices, in whole rows spread over it. */
const sampled = 2 ** 18

const strideOf = (values: number): number => Math.max(1, Math.floor(values / sampled))

/** How many values of a tensor are quantised for its prices. */
export const sampledValues = (values: number): number => values / strideOf(values)

/** What a stored matrix is used as: the matrix that the model has there, and how sensitive its answers are to errors in it. */
export interface Use {
  readonly matrix: PrunedTensor
  readonly sensitivity: Sensitivity
}

/**
 * Prices the types of a stored tensor: for each use, half the sum of sensitivities times squared errors, per token. Errors of sampled rows
 * represent all rows. Rows and columns beyond the sensitivities are padding.
 */
export async function priceTensor(
  tensor: PrunedTensor,
  uses: readonly Use[],
  tokens: number,
  importances: Float32Array | undefined,
): Promise<PricedTensor> {
  const [rows, columns] = [rowCount(tensor.shape), columnCount(tensor.shape)]
  const stride = strideOf(rows * columns)
  const chosen = Array.from({ length: Math.ceil(rows / stride) }, (_, i) => i * stride)
  const values = await readRows(tensor, chosen)
  const wanted: [Float32Array, Sensitivity][] = []
  for (const { matrix, sensitivity } of uses) wanted.push([matrix === tensor ? values : await readRows(matrix, chosen), sensitivity])
  const choices: TypeChoice[] = []
  for (const type of typesFor(columns, importances !== undefined)) {
    const stored = await storeRows(values, chosen, tensor.shape, type, importances)
    const price = wanted.reduce((sum, [own, sensitivity]) => sum + weighErrors(own, stored, chosen, sensitivity), 0) / 2 / tokens
    choices.push({ type: type.name, bytes: bytesOfValues(type, rows * columns), price: Number(price.toPrecision(4)) })
  }
  choices.sort((a, b) => a.bytes - b.bytes || a.price - b.price)
  return { name: tensor.name, shape: [...tensor.shape], choices }
}

/** Returns some rows of a matrix as a type stores them. The experts of a mixture have importances of their own, one after the other. */
async function storeRows(
  values: Float32Array,
  rows: readonly number[],
  shape: readonly number[],
  type: BlockType,
  importances: Float32Array | undefined,
): Promise<Float32Array> {
  const columns = columnCount(shape)
  const perExpert = rowCount(shape.slice(-2))
  const stored = new Float32Array(values.length)
  for (const [expert, own] of Map.groupBy(rows.keys(), (place) => Math.floor(at(rows, place) / perExpert))) {
    const [from, to] = [at(own, 0) * columns, (at(own, 0) + own.length) * columns]
    const weighed = importances?.subarray(expert * columns, (expert + 1) * columns)
    stored.set(decodeBlocks(await encodeRows(values.subarray(from, to), type, columns, weighed), type), from)
  }
  return stored
}

/** The types whose blocks divide rows of this length. Some weigh errors by importances, so a matrix without these cannot have them. */
export const typesFor = (columns: number, weighed: boolean): BlockType[] =>
  candidateTypes.map(blockTypeNamed).filter((type) => columns % type.values === 0 && (weighed || type.dtype || !type.needsImportances))

async function readRows(tensor: PrunedTensor, rows: readonly number[]): Promise<Float32Array> {
  const columns = columnCount(tensor.shape)
  const bytes = await tensor.bytes()
  const rowBytes = bytes.byteLength / rowCount(tensor.shape)
  const values = new Float32Array(rows.length * columns)
  for (const [i, row] of rows.entries())
    values.set(toFloat32(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), tensor.dtype), i * columns)
  return values
}

/** Sums squared errors of stored rows [rows, C] times their sensitivity, scaled from some rows to all. */
function weighErrors(
  values: Float32Array,
  stored: Float32Array,
  rows: readonly number[],
  { rows: ofRows, columns: ofColumns, total }: Sensitivity,
): number {
  const columns = values.length / rows.length
  let [weighted, weights] = [0, 0]
  for (const [i, row] of rows.entries()) {
    const weight = ofRows[row] ?? 0
    if (weight === 0) continue
    let own = 0
    for (let column = 0; column < ofColumns.length; column++) {
      const at = i * columns + column
      own += ((values[at] as number) - (stored[at] as number)) ** 2 * (ofColumns[column] as number)
    }
    weighted += own * weight
    weights += weight
  }
  return weights === 0 ? 0 : ((weighted / weights) * ofRows.reduce((sum, weight) => sum + weight, 0)) / total
}
