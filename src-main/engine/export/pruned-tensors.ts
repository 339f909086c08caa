import type { BlockPlan, Plan } from '#contract/plan.ts'
import type { Checkpoint, TensorInfo } from '#engine/checkpoint/checkpoint.ts'
import type { TensorToWrite } from '#engine/checkpoint/write-safetensors.ts'
import type { BlockLayout, DecoderSpec, NormTensors, Projection } from '#engine/model/spec.ts'
import { type Cut, cutMatrix } from './cut-matrix.ts'

/** How a plan is put into tensors. */
export interface TensorStyle {
  /** What is removed is left out, or stays as zeros so that every block has the same tensors. */
  readonly removed: 'absent' | 'zeroed'
  /** The width that every MLP is padded to with zero neurons; each its own without it. */
  readonly width?: number
  /** Blocks of the dense model that the folder has, in order; they are numbered anew. */
  readonly blocks: readonly number[]
}

/** One stored tensor in the making: ranges of rows of the source, each with its cut, one under the other. */
interface Piece {
  readonly source: string
  readonly firstRow: number
  readonly rows: number
  readonly cut: Cut
}

/**
 * The tensors of a model as a plan leaves it, in the dtype and under the names of the checkpoint, each made when it is written.
 * Kept rows and columns are copied byte by byte, so that the weights stay bit-equal.
 */
export function prunedTensors(checkpoint: Checkpoint, spec: DecoderSpec, plan: Plan, style: TensorStyle): TensorToWrite[] {
  const pieces = new Map<string, Piece[]>()
  const add = (name: string, piece: Piece) => pieces.set(name, [...(pieces.get(name) ?? []), piece])
  const addWhole = (name: string) => add(name, { source: name, firstRow: 0, rows: shapeOf(checkpoint, name)[0] ?? 0, cut: {} })
  addWhole(spec.embedding)
  style.blocks.forEach((block, position) => {
    addBlock(spec, block, position, plan.blocks[block] as BlockPlan, style, add)
  })
  for (const norm of normNames(spec.finalNorm)) addWhole(norm)
  if (spec.head.weight !== spec.embedding) addWhole(spec.head.weight)
  if (spec.head.bias) addWhole(spec.head.bias)
  return [...pieces].map(([name, parts]) => toTensor(checkpoint, name, parts))
}

function addBlock(
  spec: DecoderSpec,
  block: number,
  position: number,
  plan: BlockPlan,
  style: TensorStyle,
  add: (name: string, piece: Piece) => void,
): void {
  const [from, to] = [spec.block(block), spec.block(position)]
  const layout = spec.blocks[block] as BlockLayout
  const attention = layout.attention && plan.attention === 'kept'
  const mlp = layout.width > 0 && plan.mlp !== 'removed'
  const norm = (source: NormTensors, target: NormTensors) => {
    for (const [i, name] of normNames(source).entries())
      add(normNames(target)[i] ?? name, { source: name, firstRow: 0, rows: spec.hidden, cut: {} })
  }
  const projection = (source: Projection, target: Projection, cut: Cut) => {
    add(target.weight, { source: source.weight, firstRow: source.firstRow, rows: source.rows, cut })
    if (source.bias && target.bias)
      add(target.bias, {
        source: source.bias,
        firstRow: source.firstRow,
        rows: source.rows,
        cut: { ...cut, columns: undefined, columnsKept: undefined, paddedColumns: undefined },
      })
  }
  const stays = (present: boolean) => present || style.removed === 'zeroed'
  if (layout.attention && stays(attention)) {
    for (const key of ['query', 'key', 'value'] as const) projection(from[key], to[key], {})
    projection(from.output, to.output, attention ? {} : { zero: true })
  }
  if (stays(attention) || (from.mlpNorm === undefined && stays(mlp))) norm(from.attentionNorm, to.attentionNorm)
  if (layout.width > 0 && stays(mlp)) {
    const { rows, columns } = mlpCuts(plan, style.width)
    if (from.gate && to.gate) projection(from.gate, to.gate, rows)
    projection(from.up, to.up, rows)
    projection(from.down, to.down, mlp ? columns : { ...columns, zero: true })
    if (from.mlpNorm && to.mlpNorm) norm(from.mlpNorm, to.mlpNorm)
  }
}

/** Cuts of the inner projections (by rows) and of the down projection (by columns). */
function mlpCuts(plan: BlockPlan, width: number | undefined): { rows: Cut; columns: Cut } {
  if (plan.mlp === 'removed') {
    const none = width === undefined ? undefined : []
    return { rows: { rowsKept: none, paddedRows: width }, columns: { columnsKept: none, paddedColumns: width } }
  }
  const { kept, inputs, outputs } = plan.mlp
  const neurons = kept === 'all' ? undefined : kept
  return {
    rows: { rowsKept: neurons, paddedRows: width, columns: inputs },
    columns: { columnsKept: neurons, paddedColumns: width, rows: outputs },
  }
}

const normNames = (norm: NormTensors): string[] => [norm.weight, ...(norm.bias ? [norm.bias] : [])]

const shapeOf = (checkpoint: Checkpoint, name: string): readonly number[] => checkpoint.tensors.get(name)?.shape ?? []

function toTensor(checkpoint: Checkpoint, name: string, pieces: Piece[]): TensorToWrite {
  const info = checkpoint.tensors.get(pieces[0]?.source ?? name) as TensorInfo
  const columns = info.shape.slice(1)
  const first = pieces[0] as Piece
  const rows = pieces.reduce((total, { cut, rows: all }) => total + (cut.paddedRows ?? cut.rowsKept?.length ?? all), 0)
  const width = first.cut.paddedColumns ?? first.cut.columnsKept?.length ?? columns[0]
  const entryBytes = info.bytes / info.shape.reduce((a, b) => a * b, 1)
  return {
    name,
    dtype: info.dtype,
    shape: width === undefined || columns.length === 0 ? [rows] : [rows, width],
    async bytes() {
      const parts = await Promise.all(
        pieces.map(async ({ source, firstRow, rows: count, cut }) =>
          cutMatrix(await checkpoint.read(source, { first: firstRow, count }), count, columns[0] ?? 1, entryBytes, cut),
        ),
      )
      return parts.length === 1 ? (parts[0] as Uint8Array) : new Uint8Array(Buffer.concat(parts))
    },
  }
}
