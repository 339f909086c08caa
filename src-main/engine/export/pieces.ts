import type { Plan } from '#contract/pruning/plan.ts'
import type { Rows } from '#engine/checkpoint/checkpoint.ts'
import type { TensorToWrite } from '#engine/checkpoint/write-safetensors.ts'
import type { Model } from '#engine/model/model.ts'
import type { PlanTensors } from '#engine/model/views/plan-tensors.ts'
import type { Cut } from './cut-matrix.ts'

/** A model and what a plan makes of it. */
export interface Planned {
  readonly model: Pick<Model, 'checkpoint' | 'spec'>
  readonly plan: Plan
  readonly tensors?: PlanTensors | undefined
}

/** One stored tensor in the making: ranges of rows, one under the other, each with its cut; without a source they are zeros. */
export interface Piece {
  readonly source: string | undefined
  readonly firstRow: number
  readonly rows: number
  readonly columns: number | undefined
  readonly cut: Cut
  /** Where it is not rows by columns. */
  readonly shape?: readonly number[]
  /** The plan's tensor that replaces the rows, or some rows of it. */
  readonly replaced?: string | undefined
  readonly replacedRows?: Rows
  /** What the source's values are multiplied by. */
  readonly scale?: number | undefined
}

/** A tensor in the making, and what of it a GGUF file stores as it is needed: its type there and its bytes. */
export interface PrunedTensor extends TensorToWrite {
  readonly stored?: { readonly type: string; bytes(): Promise<Uint8Array> }
}

export type AddPiece = (name: string, piece: Piece) => void
