import { keep, type Tensor, type Tensor2D, type TensorContainer, tensor_util } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'
import type { QuantisedRows } from '#engine/backend/fused.ts'

/** Making a smaller copy takes the time of two reads, so a weight gets one after this many reads by few rows. */
const readsBefore = 3

/** Bytes still available for smaller copies, shared by everything under one budget. */
export interface NarrowRoom {
  bytes: number
}

/** Reads the quantised blocks that a weight was unpacked from, for the time of `use`. */
export type ReadBlocks = <T>(use: (rows: readonly QuantisedRows[]) => T) => Promise<T>

interface Form {
  readonly room: NarrowRoom
  /** Whether `groupStored` makes the copy. */
  readonly isQuantised: boolean
  reads: number
  narrow?: Tensor2D | undefined
}

const forms = new WeakMap<object, Form>()

/** Weights with quantised blocks, by what they were offered with, and how often `groupStored` was called. */
const quantised = new WeakMap<object, { readonly blocks: ReadonlyMap<Tensor2D, ReadBlocks>; reads: number }>()

/** Marks resident weights as candidates for a smaller copy: in 16 bits, or, for those with `blocks`, as these. */
export function offerNarrow(weights: object, room: NarrowRoom, blocks: ReadonlyMap<Tensor2D, ReadBlocks> = new Map()): void {
  for (const tensor of tensor_util.getTensorsInContainer(weights as TensorContainer)) {
    if (tensor.rank === 2 && tensor.dtype === 'float32') forms.set(tensor, { room, isQuantised: blocks.has(tensor as Tensor2D), reads: 0 })
  }
  if (blocks.size > 0) quantised.set(weights, { blocks, reads: 0 })
}

/**
 * A weight in fewer bits, if it was offered, loses nothing by it and there is room, so results are equal bit for bit. Undefined if it must
 * be read in float32.
 */
export function narrowed(weight: Tensor2D): Tensor2D | undefined {
  const form = forms.get(weight)
  if (form && !form.isQuantised && ++form.reads === readsBefore && hasRoom(form, weight))
    take(form, activeBackend().fused?.narrow?.(weight))
  return form?.narrow
}

/** Whether `narrowed` returns the same for a weight from now on, as long as it is resident. */
export const isSettled = (weight: Tensor2D): boolean => (forms.get(weight)?.reads ?? readsBefore) >= readsBefore

/**
 * Before few rows read weights that were offered together: reads the quantised blocks of those that have some, once they are read often
 * enough. The caller must hold the weights meanwhile.
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

/** Disposes of the smaller copies. The caller must call this before disposing of the weights. */
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

/** No copy takes more than half the bytes of its weight. */
const hasRoom = ({ room }: Form, weight: Tensor2D): boolean => room.bytes >= bytesOf(weight) / 2

function take(form: Form, narrow: Tensor2D | undefined): void {
  if (!narrow) return
  form.narrow = keep(narrow)
  form.room.bytes -= bytesOf(narrow)
}

const bytesOf = ({ size }: Tensor): number => 4 * size
