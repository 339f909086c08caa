import { at } from '#contract/at.ts'
import {
  constantAt,
  isConstant,
  type MixtureTensors,
  type MlpTensors,
  type Projection,
  type ShapedTensor,
} from '#engine/architectures/spec.ts'
import { type KeptExpert, keptExperts } from '#engine/model/views/kept-experts.ts'
import { constantsName, replacedExperts } from '#engine/model/views/plan-tensors.ts'
import type { Cut } from './cut-matrix.ts'
import type { AddPiece, Planned } from './pieces.ts'

interface MixtureSizes {
  /** Width to which each expert is padded. */
  readonly width: number | undefined
  /** The number of experts in a mixture that is written as zeros. */
  readonly experts: number | undefined
}

/** Adds the mixture of a pruned block: kept experts are renumbered in order, and the router has only their rows. */
export function addMixture(
  { model, plan, tensors }: Planned,
  block: number | undefined,
  to: MixtureTensors,
  sizes: MixtureSizes,
  add: AddPiece,
): void {
  const from = block === undefined ? undefined : model.spec.block(block).mixture
  const mlp = block === undefined ? undefined : plan.blocks[block]?.mlp
  const kept = from && mlp && mlp !== 'removed' ? keptExperts(mlp, from.experts.length) : undefined
  const count = kept?.length ?? sizes.experts ?? to.experts.length
  const numbers = kept?.map(({ number }) => number)
  const rows = { rowsKept: numbers, ...(numbers ? {} : { paddedRows: count }) }
  addWeight(from?.router, to.router, rows, add)
  if (to.correction) addCorrection(from, to.correction, rows, add)
  const downs = new Map(
    block === undefined ? [] : replacedExperts(model.spec, plan, tensors, block).map(({ place, name }) => [place, name]),
  )
  const living = kept?.filter(({ number, constant }) => !constant && !isConstant(from?.experts[number] as MlpTensors)).length ?? count
  for (let place = 0; place < count; place++) {
    const target = to.experts[place] as MlpTensors
    const one = kept?.[place]
    const source = one && from?.experts[one.number]
    if (source && (one.constant || isConstant(source))) {
      const first = kept?.filter(({ constant }) => constant).indexOf(one) ?? -1
      const replaced = one.constant ? { replaced: constantsName(block as number), replacedRows: { first, count: 1 } } : {}
      const rows = model.spec.hidden
      const { weight } = isConstant(source) ? source.constant : source.down
      add(constantAt(to, place, rows).constant.weight, { source: weight, firstRow: 0, rows, columns: undefined, cut: {}, ...replaced })
    } else
      addExpert(
        source,
        target,
        { one, living, width: sizes.width, scale: mlp === 'removed' ? undefined : mlp?.expertScale, down: downs.get(place) },
        add,
      )
  }
  addShared(from, to, add)
}

function addCorrection(from: MixtureTensors | undefined, { weight }: ShapedTensor, cut: Cut, add: AddPiece): void {
  const source = from?.correction?.weight
  add(weight, { source, firstRow: 0, rows: from?.experts.length ?? 0, columns: undefined, cut })
}

function addShared(from: MixtureTensors | undefined, { shared, sharedGate }: MixtureTensors, add: AddPiece): void {
  if (shared) {
    const { rows } = shared.up
    addExpert(from?.shared, shared, { one: undefined, living: 1, width: rows === from?.shared?.up.rows ? undefined : rows }, add)
  }
  if (sharedGate) addWeight(from?.sharedGate, sharedGate, {}, add)
}

interface ExpertCut {
  readonly one: KeptExpert | undefined
  readonly living: number
  readonly width: number | undefined
  /** Factor on the down projection. */
  readonly scale?: number | undefined
  /** The plan's tensor that replaces the down projection. */
  readonly down?: string | undefined
}

function addExpert(
  source: MlpTensors | undefined,
  target: MlpTensors,
  { one, living, width, scale, down }: ExpertCut,
  add: AddPiece,
): void {
  const neurons = one === undefined || one.kept === 'all' ? undefined : one.kept
  const own = width ?? neurons?.length ?? target.up.rows
  const inner = { rowsKept: neurons, paddedRows: width }
  const shapeOf = (rows: number, columns: number) => (target.up.shape ? [living, rows, columns] : undefined)
  // Gates and ups may share a tensor.
  const each = target.up.shape ? at(target.up.shape, 1) / target.up.rows : 1
  if (target.gate) addWeight(source?.gate, target.gate, inner, add, shapeOf(each * own, target.up.columns))
  addWeight(source?.up, target.up, inner, add, shapeOf(each * own, target.up.columns))
  const shape = shapeOf(target.down.rows, own)
  // A tensor of the plan is already cut, so it only needs padding with zeros.
  const columns = neurons?.length ?? source?.down.columns
  const addDown: AddPiece = (name, piece) =>
    add(
      name,
      down && name === target.down.weight ? { ...piece, firstRow: 0, columns, cut: { paddedColumns: width }, replaced: down } : piece,
    )
  addWeight(source?.down, target.down, { columnsKept: neurons, paddedColumns: width }, addDown, shape, scale)
}

function addWeight(
  source: Projection | undefined,
  target: Projection,
  cut: Cut,
  add: AddPiece,
  shape?: readonly number[],
  scale?: number,
): void {
  const { firstRow, rows, columns } = source ?? target
  add(target.weight, { source: source?.weight, firstRow, rows, columns, cut, scale, ...(shape ? { shape } : {}) })
  const { rowsKept, paddedRows } = cut
  if (target.bias)
    add(target.bias, {
      source: source?.bias,
      firstRow,
      rows,
      columns: undefined,
      cut: { rowsKept, paddedRows },
      scale,
      // If experts share a tensor, their biases do too.
      ...(target.shape ? { shape: [at(target.shape, 0), at(shape ?? target.shape, 1)] } : {}),
    })
}
