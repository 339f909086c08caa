import { keep, type Tensor2D, type TensorContainer, tensor_util } from '@tensorflow/tfjs-core'
import { activeBackend } from '#engine/backend/active.ts'

/** A form in 16 bits takes the time of two reads to make, so it is made for weights that few rows have read so often. */
const readsBefore = 3

interface Form {
  reads: number
  narrow?: Tensor2D | undefined
}

const forms = new WeakMap<object, Form>()

/** Says of weights that stay in memory that there is room for them in 16 bits, too. */
export function offerNarrow(weights: object): void {
  for (const tensor of tensor_util.getTensorsInContainer(weights as TensorContainer)) {
    if (tensor.rank === 2 && tensor.dtype === 'float32') forms.set(tensor, { reads: 0 })
  }
}

/** A weight that was offered in 16 bits, where it loses nothing by it: results are the same bit for bit. Undefined where it has to be read in float32. */
export function narrowed(weight: Tensor2D): Tensor2D | undefined {
  const form = forms.get(weight)
  if (form && ++form.reads === readsBefore) {
    const narrow = activeBackend().fused?.narrow?.(weight)
    form.narrow = narrow && keep(narrow)
  }
  return form?.narrow
}

/** Disposes of what was made of weights; for those who dispose of them. */
export function disposeNarrow(weights: object): void {
  for (const tensor of tensor_util.getTensorsInContainer(weights as TensorContainer)) {
    forms.get(tensor)?.narrow?.dispose()
    forms.delete(tensor)
  }
}
