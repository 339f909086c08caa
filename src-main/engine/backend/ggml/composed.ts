import type { Tensor, Tensor2D, TensorInfo } from '@tensorflow/tfjs-core'
import type { FusedOperations } from '../fused.ts'
import { attentionOf } from './attention.ts'
import type { Address } from './functions.ts'
import { largestOf } from './kernels/reductions.ts'
import type { GgmlTensors } from './tensors.ts'

/** ggml searches for a row's largest logit on one thread, so only this many are compared. */
const comparedLogits = 64

type Composed = Pick<FusedOperations, 'normalize' | 'gate' | 'exponents'> & Pick<Partial<FusedOperations>, 'attention'>

/** Operations of the decoder for which ggml has one or two operations. */
export function composedOperations(tensors: GgmlTensors, isGpu: boolean): Composed {
  const { operations } = tensors
  const asTensor = (made: TensorInfo) => tensors.tensorOf(made) as Tensor2D
  return {
    // Vulkan's own is right on llvmpipe, and 1.5 times as fast there, but its shaders compile for 10 to 30 s, and no real GPU ran it.
    ...(isGpu ? {} : { attention: attentionOf(tensors) }),
    normalize(x, weight, bias, { epsilon, divisor, centred }) {
      // Another divisor than the width scales all roots by one factor.
      const share = divisor / x.shape[1]
      const others = [weight, bias].filter((tensor): tensor is Tensor => tensor !== undefined)
      const made = tensors.make(x.shape, [x, ...others], ([own = 0, ...more]) => {
        const rows = operations[centred ? 'norm' : 'rmsNorm'](own, epsilon * share)
        let result = share === 1 ? rows : operations.scale(rows, Math.sqrt(share), 0)
        if (weight) result = operations.multiply(result, more[0] as Address)
        return bias ? operations.add(result, more.at(-1) as Address) : result
      })
      return asTensor(made)
    },
    gate: (gate, up) => asTensor(tensors.make(gate.shape, [gate, up], ([a = 0, b = 0]) => operations.gate(a, b))),
    exponents(logits) {
      const step = Math.ceil(logits.shape[1] / comparedLogits)
      const made = exponentsOf(tensors, logits, step)
      // Shares of the compared logits vanish if all are far below the largest.
      if ((tensors.readSync(made.dataId) as Float32Array).every((number) => Math.abs(number) < 1e30)) return asTensor(made)
      tensors.disposeData(made.dataId)
      return asTensor(exponentsOf(tensors, logits, 1))
    },
  }
}

/** The largest logit of each row [N, V] among every `step`th, and the sum of all exponents relative to it: [N, 2]. */
function exponentsOf(tensors: GgmlTensors, { dataId, shape: [rows, width] }: Tensor2D, step: number): TensorInfo {
  const { softmax, contiguous, view, reshape, divide, scale, concat } = tensors.operations
  const count = Math.ceil(width / step)
  return tensors.make([rows, 2], [{ dataId, shape: [rows, width] }], ([own = 0]) => {
    const largest = (x: Address) => {
      const every = contiguous(view(x, 1, count, rows, 1, 4 * step, 4 * width, 4 * width * rows, 0))
      return largestOf(tensors.operations, reshape(every, count, rows, 1, 1), count)
    }
    // The logit's share of all exponents is one over the sum relative to it.
    const share = largest(softmax(own, 0, 1, 0))
    return concat(largest(own), divide(scale(share, 0, 1), share), 0)
  })
}
