import { keep, type Tensor, type Tensor2D, type TensorContainer, tensor_util } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

/** Making a 16-bit copy takes the time of two reads, so a weight gets one after this many reads by few rows. */
const readsBefore = 3

/** Bytes still available for 16-bit copies, shared by everything under one budget. */
export interface NarrowRoom {
  bytes: number
}

interface Form {
  readonly room: NarrowRoom
  reads: number
  narrow?: Tensor2D | undefined
}

const forms = new WeakMap<object, Form>()

/** Marks resident weights as candidates for a 16-bit copy. */
export function offerNarrow(weights: object, room: NarrowRoom): void {
  for (const tensor of tensor_util.getTensorsInContainer(weights as TensorContainer)) {
    if (tensor.rank === 2 && tensor.dtype === 'float32') forms.set(tensor, { room, reads: 0 })
  }
}

/**
 * A weight in 16 bits, if it was offered, loses nothing by it and there is room, so results are equal bit for bit. Undefined if it must be
 * read in float32.
 */
export function narrowed(weight: Tensor2D): Tensor2D | undefined {
  const form = forms.get(weight)
  if (form && ++form.reads === readsBefore && form.room.bytes >= bytesOf(weight)) {
    const narrow = activeBackend().fused?.narrow?.(weight)
    form.narrow = narrow && keep(narrow)
    if (narrow) form.room.bytes -= bytesOf(weight)
  }
  return form?.narrow
}

/** Disposes of the 16-bit copies. The caller must call this before disposing of the weights. */
export function disposeNarrow(weights: object): void {
  for (const tensor of tensor_util.getTensorsInContainer(weights as TensorContainer)) {
    const { narrow, room } = forms.get(tensor) ?? {}
    if (narrow && room) {
      room.bytes += bytesOf(tensor)
      narrow.dispose()
    }
    forms.delete(tensor)
  }
}

const bytesOf = ({ size }: Tensor): number => 2 * size
