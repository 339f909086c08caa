import { outside } from '#contract/at.ts'
import type { Plan } from '#contract/pruning/plan.ts'
import { releaseBuffer } from '#engine/checkpoint/aligned-buffer.ts'
import type { Checkpoint, Rows } from '#engine/checkpoint/checkpoint.ts'
import { type Dtype, elementBytes, fromFloat32 } from '#engine/checkpoint/dtypes.ts'
import { blockTypeNamed, bytesOfValues } from '#engine/checkpoint/gguf/value-blocks.ts'
import { type TensorToWrite, tensorBytes } from '#engine/checkpoint/safetensors/write-safetensors.ts'
import type { Model } from '#engine/model/model.ts'
import { type PlanTensors, storedDtype } from '#engine/model/views/plan-tensors.ts'

/** A model and its plan. */
export interface Planned {
  readonly model: Pick<Model, 'checkpoint' | 'spec'>
  readonly plan: Plan
  readonly tensors?: PlanTensors | undefined
}

/** A piece of a tensor to write: rows of a stored tensor with their cut, or zeros if it has no source. */
export interface Piece {
  readonly source: string | undefined
  readonly firstRow: number
  readonly rows: number
  readonly columns: number | undefined
  readonly cut: Cut
  /** The shape of the whole tensor, if it is not rows by columns. */
  readonly shape?: readonly number[]
  /** The plan's tensor that replaces the rows. If only some of its rows do, `replacedRows` says which. */
  readonly replaced?: string | undefined
  readonly replacedRows?: Rows
  /** Factor on the source's values. */
  readonly scale?: number | undefined
}

/** A tensor to write. `stored` has its type and bytes in the source GGUF file, if these can be copied. */
export interface PrunedTensor extends TensorToWrite {
  readonly stored?: { readonly type: string; bytes(): Promise<Uint8Array> }
}

export type AddPiece = (name: string, piece: Piece) => void

interface Sources {
  readonly checkpoint: Checkpoint
  readonly tensors: PlanTensors | undefined
}

/** Makes a tensor from its pieces. */
export function toTensor(sources: Sources, name: string, pieces: readonly Piece[], common: Dtype): PrunedTensor {
  const { checkpoint } = sources
  const first = pieces[0] as Piece
  const dtype = (first.source === undefined ? undefined : checkpoint.tensors.get(first.source)?.dtype) ?? common
  const rows = pieces.reduce((total, { cut, rows: all }) => total + (cut.paddedRows ?? cut.rowsKept?.length ?? all), 0)
  const width = first.cut.paddedColumns ?? first.cut.columnsKept?.length ?? first.columns
  const shape = first.shape ?? (width === undefined ? [rows] : [rows, width])
  return {
    name,
    dtype,
    shape,
    bytes: () => joinPieces(pieces, tensorBytes({ dtype, shape }), (piece) => cutPiece(sources, piece, elementBytes(dtype))),
    ...storedIn(checkpoint, pieces, shape),
  }
}

/** Joins pieces in place, because a tensor may hold all experts of a mixture and a second copy would be large. */
async function joinPieces(pieces: readonly Piece[], bytes: number, read: (piece: Piece) => Promise<Uint8Array>): Promise<Uint8Array> {
  if (pieces.length === 1) return read(pieces[0] as Piece)
  const whole = new Uint8Array(bytes)
  let end = 0
  for (const piece of pieces) {
    const own = await read(piece)
    whole.set(own, end)
    end += own.byteLength
    releaseBuffer(own)
  }
  return whole
}

/** The type and bytes of a tensor, if all its pieces are unchanged rows of the same type in a GGUF file. */
function storedIn(checkpoint: Checkpoint, pieces: readonly Piece[], shape: readonly number[]): Pick<PrunedTensor, 'stored'> {
  const types = new Set(pieces.map((piece) => (isWhole(piece) ? checkpoint.tensors.get(piece.source ?? '')?.storedAs : undefined)))
  const [type] = types
  if (type === undefined || types.size > 1) return {}
  const rowsOf = async ({ source = '', firstRow, rows, cut }: Piece) => {
    const bytes = (await checkpoint.readStored?.(source, { first: firstRow, count: rows })) ?? new Uint8Array()
    return cut.rowsKept ? cutMatrix(bytes, rows, 1, bytes.byteLength / rows, cut) : bytes
  }
  const values = shape.reduce((product, size) => product * size, 1)
  return { stored: { type, bytes: () => joinPieces(pieces, bytesOfValues(blockTypeNamed(type), values), rowsOf) } }
}

/** Whether a piece consists of unchanged rows of its source. */
const isWhole = ({ replaced, scale, rows, columns, cut }: Piece): boolean =>
  replaced === undefined &&
  scale === undefined &&
  [cut.columnsKept, cut.rows, cut.columns].every((list) => list === undefined) &&
  (cut.paddedColumns === undefined || cut.paddedColumns === columns) &&
  (cut.paddedRows ?? cut.rowsKept?.length ?? rows) === (cut.rowsKept?.length ?? rows)

async function cutPiece(sources: Sources, piece: Piece, entryBytes: number): Promise<Uint8Array> {
  const { source, rows, columns = 1, cut } = piece
  if (source === undefined) return cutMatrix(new Uint8Array(), rows, columns, entryBytes, { ...cut, zero: true })
  const whole = await readPiece(sources, source, piece)
  const own = cutMatrix(whole, rows, columns, entryBytes, cut)
  releaseBuffer(whole)
  return own
}

async function readPiece(
  { checkpoint, tensors }: Sources,
  source: string,
  { replaced, replacedRows, scale, firstRow, rows }: Piece,
): Promise<Uint8Array> {
  if (replaced === undefined || !tensors) {
    const range = { first: firstRow, count: rows }
    if (scale === undefined) return checkpoint.read(source, range)
    const values = await checkpoint.readFloat32(source, range)
    return fromFloat32(
      values.map((value) => value * scale),
      storedDtype(checkpoint, source),
    )
  }
  return fromFloat32(await tensors.readFloat32(replaced, replacedRows), storedDtype(checkpoint, source))
}

/** What to keep of a stored matrix. An undefined list keeps everything. */
export interface Cut {
  /** Whether all entries become zero. */
  readonly zero?: boolean
  /** Rows to keep; the others are dropped. */
  readonly rowsKept?: readonly number[] | undefined
  /** Pads with zero rows up to this number of rows. */
  readonly paddedRows?: number | undefined
  readonly columnsKept?: readonly number[] | undefined
  readonly paddedColumns?: number | undefined
  /** Rows or columns that keep their values; the others become zeros. */
  readonly rows?: readonly number[] | undefined
  readonly columns?: readonly number[] | undefined
}

/** Cuts a matrix of `rows` x `columns` entries of `entryBytes` bytes, copying whole entries. */
function cutMatrix(source: Uint8Array, rows: number, columns: number, entryBytes: number, cut: Cut): Uint8Array {
  const rowsKept = cut.rowsKept ?? range(rows)
  const columnsKept = cut.columnsKept ?? range(columns)
  const width = cut.paddedColumns ?? columnsKept.length
  const result = new Uint8Array((cut.paddedRows ?? rowsKept.length) * width * entryBytes)
  if (cut.zero) return result
  const liveRows = cut.rows && new Set(cut.rows)
  const liveColumns = cut.columns && new Set(cut.columns)
  const whole = !liveColumns && cut.columnsKept === undefined
  rowsKept.forEach((row, i) => {
    if (liveRows && !liveRows.has(row)) return
    const from = row * columns * entryBytes
    const to = i * width * entryBytes
    if (whole) {
      result.set(source.subarray(from, from + columns * entryBytes), to)
      return
    }
    columnsKept.forEach((column, j) => {
      if (liveColumns && !liveColumns.has(column)) return
      for (let byte = 0; byte < entryBytes; byte++)
        result[to + j * entryBytes + byte] = source[from + column * entryBytes + byte] ?? outside(source, from + column * entryBytes + byte)
    })
  })
  return result
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)
