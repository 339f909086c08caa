import { engine, type Tensor, type Tensor2D, type TensorInfo } from '@tensorflow/tfjs-core'
import type { FusedOperations } from '../fused.ts'
import type { Address } from './functions.ts'
import { largestOf } from './kernels/reductions.ts'
import type { GgmlTensors } from './tensors.ts'

/** Operations of the decoder for which ggml has one or two operations. */
export function composedOperations(tensors: GgmlTensors): Pick<FusedOperations, 'normalize' | 'gate' | 'exponents'> {
  const { operations } = tensors
  const asTensor = (made: TensorInfo) => engine().makeTensorFromTensorInfo(made, tensors) as Tensor2D
  return {
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
      const [rows, width] = logits.shape
      const made = tensors.make([rows, 2], [logits], ([own = 0]) => {
        // The largest share is one over the sum of exponents relative to the largest.
        const share = largestOf(operations, operations.softmax(own, 0, 1, 0), width)
        const sum = operations.divide(operations.scale(share, 0, 1), share)
        return operations.concat(largestOf(operations, own, width), sum, 0)
      })
      return asTensor(made)
    },
  }
}
