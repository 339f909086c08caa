import { keep, type Tensor, type Tensor2D, type TensorContainer, tensor_util } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { RowFactor } from '#engine/backend/bf16-ops.ts'
import type { QuantisedRows } from '#engine/backend/fused.ts'

/**
 * A weight gets a smaller copy the third time that a product with few rows reads it, because making the copy takes as long as two reads.
 */
const readsBefore = 3

/** The bytes still available for smaller copies, shared by all weights under one memory budget. */
export interface NarrowRoom {
  bytes: number
}

/** Reads the quantised blocks that a weight was unpacked from, and releases them after `use`. */
export type ReadBlocks = <T>(use: (rows: readonly QuantisedRows[]) => T) => Promise<T>

interface Form {
  readonly room: NarrowRoom
  /** Whether `groupStored` makes the copy from quantised blocks, so that `narrowed` must not. */
  readonly isQuantised: boolean
  readonly factor: RowFactor | undefined
  reads: number
  narrow?: Tensor2D | undefined
}

const forms = new WeakMap<object, Form>()

/** For each set of weights that was offered: those with quantised blocks, and how often `groupStored` was called for the set. */
const quantised = new WeakMap<object, { readonly blocks: ReadonlyMap<Tensor2D, ReadBlocks>; reads: number }>()

/**
 * Marks resident weights as candidates for a smaller copy: in quantised blocks for weights that `blocks` can read, in 16 bits for all
 * others. `factors` has what rows of a weight were multiplied by.
 */
export function offerNarrow(
  weights: object,
  room: NarrowRoom,
  blocks: ReadonlyMap<Tensor2D, ReadBlocks> = new Map(),
  factors: ReadonlyMap<Tensor2D, RowFactor> = new Map(),
): void {
  for (const tensor of tensor_util.getTensorsInContainer(weights as TensorContainer)) {
    if (tensor.rank !== 2 || tensor.dtype !== 'float32') continue
    const matrix = tensor as Tensor2D
    forms.set(matrix, { room, isQuantised: blocks.has(matrix), factor: factors.get(matrix), reads: 0 })
  }
  if (blocks.size > 0) quantised.set(weights, { blocks, reads: 0 })
}

/**
 * Returns the smaller copy of a weight, with which results are equal bit for bit. It exists only if the weight was offered, would lose
 * nothing, and there was room. Otherwise returns undefined: the weight must be read in float32.
 */
export function narrowed(weight: Tensor2D): Tensor2D | undefined {
  const form = forms.get(weight)
  if (form && !form.isQuantised && ++form.reads === readsBefore && hasRoom(form, weight))
    take(form, activeBackend().fused?.narrow?.(weight, form.factor))
  return form?.narrow
}

/** Whether `narrowed` will keep returning the same for a weight as long as it is resident. */
export const isSettled = (weight: Tensor2D): boolean => (forms.get(weight)?.reads ?? readsBefore) >= readsBefore

/**
 * Call this before products with few rows read a set of weights that was offered. The third call for the same set reads the quantised
 * blocks of those weights that have some, and makes copies from them. The caller must keep the weights leased meanwhile.
 */
export async function groupStored(weights: object): Promise<void> {
  const offer = quantised.get(weights)
  if (!offer || ++offer.reads !== readsBefore) return
  for (const [weight, read] of offer.blocks) {
    const form = forms.get(weight)
    if (!form) continue
    if (hasRoom(form, weight)) await read((rows) => take(form, activeBackend().fused?.group?.(weight, rows)))
    form.reads = readsBefore
  }
}

/** Disposes of the smaller copies of weights. Call this before disposing of the weights themselves. */
export function disposeNarrow(weights: object): void {
  for (const tensor of tensor_util.getTensorsInContainer(weights as TensorContainer)) {
    const { narrow, room } = forms.get(tensor) ?? {}
    if (narrow && room) {
      room.bytes += bytesOf(narrow)
      narrow.dispose()
    }
    forms.delete(tensor)
  }
}

/** Whether there is room for a copy, which takes at most half the bytes of its weight. */
const hasRoom = ({ room }: Form, weight: Tensor2D): boolean => room.bytes >= bytesOf(weight) / 2

function take(form: Form, narrow: Tensor2D | undefined): void {
  if (!narrow) return
  form.narrow = keep(narrow)
  form.room.bytes -= bytesOf(narrow)
}

const bytesOf = ({ size }: Tensor): number => 4 * size
