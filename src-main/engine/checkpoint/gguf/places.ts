import type { FileHandle } from 'node:fs/promises'
import type { Rows, TensorInfo } from '../checkpoint.ts'
import type { GgufLayout } from './block-layout.ts'
import { type GgufFamily, translateName } from './families.ts'
import type { GgufHeader, GgufTensor } from './header.ts'

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

/** A tensor as it appears, the rows of a stored one that it is made of, and the rows per head when they are interleaved. */
export interface Place {
  readonly info: TensorInfo
  readonly stored: PlacedTensor
  readonly rows: readonly Rows[]
  readonly interleavedRows: number | undefined
  /** What the file has added to the values. */
  readonly offset: number
}

// They became part of the config.
const rotaryTensors = /^rope_|rot_embd/

/** What the tensors of a file appear as. Throws an Error for one that the family does not know. */
export function placeTensors(
  tensors: ReadonlyMap<string, PlacedTensor>,
  family: GgufFamily,
  layout: GgufLayout,
  config: Record<string, unknown>,
): Map<string, Place> {
  const places = new Map<string, Place>()
  for (const stored of tensors.values()) {
    const names = translateName(family, stored.name)
    if (names === undefined && rotaryTensors.test(stored.name)) continue
    if (names === undefined) throw new Error(`it has tensor ${stored.name}, which ${family.modelType} does not know`)
    if (!isMissing(stored.name, layout))
      for (const place of placesOf(stored, names, family, layout, config)) places.set(place.info.name, place)
  }
  return places
}

/** Whether a tensor stands for a submodule that is gone. */
function isMissing(name: string, { blocks }: GgufLayout): boolean {
  const [, index, part] = /^blk\.(\d+)\.(attn|ffn)_/.exec(name) ?? []
  const block = index === undefined ? undefined : blocks?.[Number(index)]
  if (!block) return false
  // Where a block has one norm for both, it is called the attention's.
  return part === 'attn' ? !block.attention && !(name.includes('attn_norm') && block.width > 0) : block.width === 0
}

function placesOf(
  stored: PlacedTensor,
  names: readonly string[],
  { interleaved, normOffset = 0 }: GgufFamily,
  layout: GgufLayout,
  config: Record<string, unknown>,
): Place[] {
  const headSize = config.head_dim as number
  const { rows, columns } = neuronsOf(stored, layout)
  const rowsEach = names.length === 1 ? [rows] : headRows(stored, layout, headSize)
  return names.map((name, index) => {
    const ranges = rowsEach[index] ?? []
    const shape = [ranges.reduce((sum, { count }) => sum + count, 0), ...(columns === undefined ? [] : [columns]), ...stored.shape.slice(2)]
    const offset = /norm\.weight$/.test(name) ? normOffset : 0
    const dtype = offset === 0 ? stored.type.dtype : 'F32'
    const values = shape.reduce((product, size) => product * size, 1)
    const info: TensorInfo = {
      name,
      dtype: dtype ?? 'F32',
      shape,
      bytes: dtype && offset === 0 ? (values * stored.type.bytes) / stored.type.values : values * 4,
    }
    const interleavedRows = interleaved && /\.self_attn\.[qk]_proj\./.test(name) ? headSize : undefined
    return { info, stored, rows: ranges, offset, interleavedRows }
  })
}

/** Which rows and how many columns of a tensor are used: of an MLP's all but the zeros that were added behind its neurons. */
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
